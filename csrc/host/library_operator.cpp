#include "host/library_operator.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>

#include "host/host.h"
#include "runtime/thread_pool.h"
#include "shapes/dense.h"

namespace pynn {
namespace {

constexpr std::int64_t kPiece = 4096;  // elements of a pointwise operator that go together
constexpr std::int64_t kWorkPerElement = 16;

// Flags and sizes of version 1.
constexpr std::uint32_t kOperatorFlags = 63, kInputFlags = 7;
constexpr std::size_t kOperatorBytes = offsetof(pynn_operator, workspace);
constexpr std::size_t kInputBytes = offsetof(pynn_input, flags) + sizeof(std::uint32_t);
constexpr std::size_t kAttributeBytes =
    offsetof(pynn_attribute, default_value) + sizeof(pynn_value);
constexpr std::size_t kSampleBytes = offsetof(pynn_sample, kind) + sizeof(std::int32_t);

[[noreturn]] void malformed(const std::string& library, const std::string& what) {
  throw LibraryError(message(library, ": its table of operators is malformed: ", what));
}

// What there is of a struct that its author may have known shorter, or longer.
template <typename Struct>
Struct known_part(const Struct* given, std::size_t least, const std::string& library,
                  const char* what) {
  if (!given) malformed(library, message(what, " is missing"));
  if (given->size < least) malformed(library, message(what, " is too short"));
  Struct part{};
  std::memcpy(&part, given, std::min(given->size, sizeof(Struct)));
  return part;
}

template <typename Struct>
std::vector<Struct> known_parts(const Struct* const* given, std::int32_t count, std::size_t least,
                                const std::string& library, const char* what) {
  if (count < 0 || (count > 0 && !given)) malformed(library, message("no list of ", what, "s"));
  std::vector<Struct> parts;
  for (std::int32_t i = 0; i < count; ++i)
    parts.push_back(known_part(given[i], least, library, what));
  return parts;
}

bool is_identifier(const std::string& name) {
  const auto letter = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !name.empty() && letter(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
    return letter(c) || (c >= '0' && c <= '9');
  });
}

// The length of the UTF-8 sequence at the beginning of a text; 0 where it is none.
std::size_t sequence_length(const char* text, std::size_t size) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (length == 0 || first > 0xF4 || length > size) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  const unsigned second = byte(1);  // no longer than need be, no surrogate, none above U+10FFFF
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F))
    return 0;
  return length;
}

const void* moved(const void* data, std::int64_t bytes) {
  return data ? static_cast<const char*>(data) + bytes : nullptr;
}
void* moved(void* data, std::int64_t bytes) {
  return data ? static_cast<char*>(data) + bytes : nullptr;
}

}  // namespace

std::string readable(const char* text) {
  std::string result = text ? text : "";
  for (std::size_t i = 0; i < result.size();) {
    const std::size_t length = sequence_length(result.data() + i, result.size() - i);
    if (length == 0) result[i] = '?';
    i += length == 0 ? 1 : length;
  }
  return result;
}

void AttributeValues::add_text(std::string text) {
  pynn_value value{};
  value.text = texts_.emplace_back(std::move(text)).c_str();
  value.count = static_cast<std::int64_t>(texts_.back().size());
  values_.push_back(value);
}

void AttributeValues::add_integers(std::vector<std::int64_t> integers) {
  const std::vector<std::int64_t>& kept = lists_.emplace_back(std::move(integers));
  pynn_value value{};
  value.integers = kept.data();
  value.count = static_cast<std::int64_t>(kept.size());
  values_.push_back(value);
}

DenseShape::DenseShape(Shape shape) : present(true), sizes(std::move(shape)) {
  strides.resize(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= sizes[axis];
  }
}

pynn_tensor DenseShape::tensor(void* data, std::int32_t dtype) const {
  return {data, sizes.data(), strides.data(),
          present ? static_cast<std::int32_t>(sizes.size()) : -1, dtype};
}

LibraryOperator::LibraryOperator(const pynn_operator* table, std::string library)
    : original_(table),
      table_(known_part(table, kOperatorBytes, library, "an operator")),
      library_(std::move(library)),
      name_(table_.name ? table_.name : "") {
  if (!is_identifier(name_))
    malformed(library_, message("an operator is called '", readable(name_.c_str()), "'"));
  const auto wrong = [&](const auto&... what) {
    malformed(library_, message(name_, ": ", what...));
  };
  inputs_ = known_parts(table_.inputs, table_.input_count, kInputBytes, library_, "input");
  attributes_ = known_parts(table_.attributes, table_.attribute_count, kAttributeBytes, library_,
                            "attribute");
  samples_ = known_parts(table_.samples, table_.sample_count, kSampleBytes, library_, "sample");
  if (inputs_.empty() || inputs_.size() > kMaxOperatorInputs)
    wrong("it has ", inputs_.size(), " inputs; 1 to ", kMaxOperatorInputs, " are possible");
  if ((table_.flags & ~kOperatorFlags) != 0) wrong("unknown flags ", table_.flags);
  std::set<std::string> names;
  bool optional = false, differentiable = false;
  for (const pynn_input& input : inputs_) {
    const std::string input_name = input.name ? input.name : "";
    if (!is_identifier(input_name)) wrong("an input is called '", readable(input.name), "'");
    if (!names.insert(input_name).second) wrong("two arguments are called '", input_name, "'");
    if ((input.flags & ~kInputFlags) != 0) wrong("input ", input_name, " has unknown flags");
    const bool may_be_absent = (input.flags & PYNN_OPTIONAL) != 0;
    if (optional && !may_be_absent)
      wrong("input ", input_name, " comes after an optional one and is not optional");
    optional = may_be_absent;
    differentiable = differentiable || (input.flags & PYNN_NO_GRADIENT) == 0;
  }
  if ((inputs_[0].flags & (PYNN_OPTIONAL | PYNN_PARAMETER)) != 0)
    wrong("the first input must be an array with a batch axis that is always there");
  for (const pynn_attribute& attribute : attributes_) {
    const std::string attribute_name = attribute.name ? attribute.name : "";
    if (!is_identifier(attribute_name))
      wrong("an attribute is called '", readable(attribute.name), "'");
    if (!names.insert(attribute_name).second)
      wrong("two arguments are called '", attribute_name, "'");
    if (attribute.type < PYNN_BOOL || attribute.type > PYNN_INTEGERS)
      wrong("attribute ", attribute_name, " has the unknown type ", attribute.type);
    const pynn_value& value = attribute.default_value;
    if (!attribute.required && ((attribute.type == PYNN_TEXT && !value.text) ||
                                (attribute.type == PYNN_INTEGERS &&
                                 (value.count < 0 || (value.count > 0 && !value.integers)))))
      wrong("attribute ", attribute_name, " has no default");
    if (!attribute.required && attribute.type == PYNN_TEXT && readable(value.text) != value.text)
      wrong("the default of attribute ", attribute_name, " is not UTF-8");
  }
  for (const pynn_sample& sample : samples_)
    if (!sample.name || !sample.shapes || sample.kind < PYNN_CASE || sample.kind > PYNN_BENCHMARK)
      wrong("a sample lacks its name, shapes or kind");
  if (!table_.forward) wrong("it has no forward");
  if (differentiable && !table_.backward)
    wrong("it has no backward, and not all of its inputs are marked as without gradient");
  if (has(PYNN_POINTWISE)) {
    if (table_.shape || table_.workspace || table_.saved || has(PYNN_RANDOM))
      wrong(
          "a pointwise operator has no shape rule, no workspace, saves nothing and is not random");
    for (const pynn_input& input : inputs_)
      if ((input.flags & (PYNN_OPTIONAL | PYNN_PARAMETER)) != 0)
        wrong("inputs of a pointwise operator are neither optional nor parameters");
  }
}

// The tensors and the struct of one call.
struct LibraryOperator::Frame {
  Frame(const LibraryOperator& op, const AttributeValues& attributes, std::int32_t dtype) {
    given.size = sizeof given;
    given.host = &host();
    given.op = op.original_;
    given.attributes = attributes.data();
    given.inputs = inputs.data();
    given.y = &y;
    given.dy = &dy;
    given.gradients = gradients.data();
    given.dtype = dtype;
    given.input_count = static_cast<std::int32_t>(op.inputs_.size());
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  void set(const OperatorShapes& shapes, const OperatorArrays& arrays) {
    for (std::size_t i = 0; i < shapes.inputs.size(); ++i) {
      inputs[i] = shapes.inputs[i].tensor(const_cast<void*>(arrays.inputs[i]), given.dtype);
      gradients[i] = shapes.inputs[i].tensor(arrays.gradients[i], given.dtype);
    }
    y = shapes.y.tensor(arrays.y, given.dtype);
    dy = shapes.y.tensor(const_cast<void*>(arrays.dy), given.dtype);
    given.saved = arrays.saved;
    given.workspace = arrays.workspace;
    given.random = arrays.random;
  }
  void set_piece(std::int64_t size, const OperatorArrays& arrays) {
    count = size;
    const auto flat = [&](const void* data) {
      return pynn_tensor{const_cast<void*>(data), &count, &stride, 1, given.dtype};
    };
    for (std::int32_t i = 0; i < given.input_count; ++i) {
      const auto index = static_cast<std::size_t>(i);
      inputs[index] = flat(arrays.inputs[index]);
      gradients[index] = flat(arrays.gradients[index]);
    }
    y = flat(arrays.y);
    dy = flat(arrays.dy);
  }

  std::array<pynn_tensor, kMaxOperatorInputs> inputs{}, gradients{};
  pynn_tensor y{}, dy{};
  std::int64_t count = 0, stride = 1;
  pynn_call given{};
};

template <typename Function>
void LibraryOperator::call(const char* what, const pynn_call& given,
                           const Function& function) const {
  char text[PYNN_MESSAGE_BYTES];
  text[0] = 0;
  pynn_call own = given;
  own.message = text;
  pynn_status status = PYNN_FAILURE;
  try {
    status = function(&own);
  } catch (...) {
    std::strcpy(text, "it let a C++ exception out");
  }
  if (status == PYNN_OK) return;
  text[PYNN_MESSAGE_BYTES - 1] = 0;
  const std::string reason = text[0] ? readable(text) : "it gave no reason";
  if (status == PYNN_SHAPE_ERROR) throw ShapeError(message(name_, ": ", reason));
  if (status == PYNN_VALUE_ERROR) throw std::invalid_argument(message(name_, ": ", reason));
  throw OperatorError(message(name_, ": ", what, " failed: ", reason));
}

// What backward has not asked for it does not see, wherever it runs.
void LibraryOperator::hide_unread(Frame& frame) const {
  for (pynn_tensor& input : frame.inputs)
    if (!reads_inputs()) input.data = nullptr;
  if (!reads_output()) frame.y.data = nullptr;
}

void LibraryOperator::check_inputs(const std::vector<std::optional<Shape>>& inputs) const {
  if (inputs.size() != inputs_.size())
    throw ShapeError(message(name_, " takes ", inputs_.size(), " arrays, got ", inputs.size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const char* const input_name = inputs_[i].name;
    if (!inputs[i]) {
      if ((inputs_[i].flags & PYNN_OPTIONAL) == 0)
        throw ShapeError(message(name_, ": ", input_name, " must be an array, got None"));
      continue;
    }
    check_sizes(input_name, *inputs[i]);
    if (inputs[i]->size() > PYNN_MAX_AXES)
      throw ShapeError(message(name_, ": ", input_name, " has more than ", PYNN_MAX_AXES,
                               " axes: ", *inputs[i]));
    if (has(PYNN_POINTWISE)) {
      if (*inputs[i] != *inputs[0])
        throw ShapeError(message(name_, ": ", input_name, " must have the shape of ",
                                 inputs_[0].name, ", ", *inputs[0], ", got ", *inputs[i]));
    } else if (!is_parameter(i)) {
      if (inputs[i]->empty())
        throw ShapeError(message(name_, ": ", input_name, " must have a batch axis"));
      if (per_sample() && (*inputs[i])[0] != (*inputs[0])[0])
        throw ShapeError(message(name_, ": ", input_name, " has ", (*inputs[i])[0], " samples but ",
                                 inputs_[0].name, " has ", (*inputs[0])[0]));
    }
  }
}

OperatorShapes LibraryOperator::shapes(const std::vector<std::optional<Shape>>& inputs,
                                       const AttributeValues& attributes) const {
  check_inputs(inputs);
  OperatorShapes result;
  for (const auto& input : inputs)
    result.inputs.push_back(input ? DenseShape(*input) : DenseShape());
  if (!table_.shape) {
    result.y = result.inputs[0];
    return result;
  }
  Frame frame(*this, attributes, 0);
  frame.set(result, {});
  std::int32_t axes = -1;
  std::int64_t sizes[PYNN_MAX_AXES] = {};
  call("the shape rule", frame.given,
       [&](const pynn_call* given) { return table_.shape(given, &axes, sizes); });
  if (axes < 0 || axes > PYNN_MAX_AXES)
    throw OperatorError(message(name_, ": the shape rule gave ", axes, " axes"));
  const Shape y(sizes, sizes + axes);
  if (std::any_of(y.begin(), y.end(), [](std::int64_t size) { return size < 0; }))
    throw OperatorError(message(name_, ": the shape rule gave a negative size: ", y));
  check_sizes("the output", y);
  if (per_sample() && (y.empty() || y[0] != (*inputs[0])[0]))
    throw OperatorError(message(name_, ": the shape rule gave ", y, " for ", (*inputs[0])[0],
                                " samples, but it works sample by sample"));
  result.y = DenseShape(y);
  return result;
}

OperatorMemory LibraryOperator::memory(const OperatorShapes& shapes,
                                       const AttributeValues& attributes,
                                       std::int32_t dtype) const {
  OperatorMemory memory;
  Frame frame(*this, attributes, dtype);
  frame.set(shapes, {});
  const auto ask = [&](const char* what, std::int64_t& bytes, const auto& function) {
    call(what, frame.given, [&](const pynn_call* given) { return function(given, &bytes); });
    constexpr std::int64_t kMost = std::int64_t{1} << 46;
    if (bytes < 0 || bytes > kMost)
      throw OperatorError(message(name_, ": ", what, " asked for ", bytes, " bytes"));
  };
  if (table_.saved) ask("saved", memory.saved, table_.saved);
  if (table_.workspace) {
    ask("workspace", memory.forward, [&](const pynn_call* given, std::int64_t* bytes) {
      return table_.workspace(given, PYNN_FORWARD, bytes);
    });
    if (table_.backward)
      ask("workspace", memory.backward, [&](const pynn_call* given, std::int64_t* bytes) {
        return table_.workspace(given, PYNN_BACKWARD, bytes);
      });
  }
  return memory;
}

std::optional<std::int64_t> LibraryOperator::flops(const OperatorShapes& shapes,
                                                   const AttributeValues& attributes) const {
  if (!table_.flops) return std::nullopt;
  Frame frame(*this, attributes, 0);
  frame.set(shapes, {});
  std::int64_t count = 0;
  call("flops", frame.given, [&](const pynn_call* given) { return table_.flops(given, &count); });
  return count;
}

template <typename Function>
void LibraryOperator::in_pieces(std::int64_t count, std::int32_t dtype,
                                const OperatorArrays& arrays, const Function& function) const {
  const std::int64_t itemsize = dtype == PYNN_FLOAT64 ? 8 : 4;
  parallel_for((count + kPiece - 1) / kPiece, kPiece * kWorkPerElement,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const std::int64_t first = i * kPiece, bytes = first * itemsize;
                   OperatorArrays piece;
                   for (std::size_t input = 0; input < inputs_.size(); ++input) {
                     piece.inputs[input] = moved(arrays.inputs[input], bytes);
                     piece.gradients[input] = moved(arrays.gradients[input], bytes);
                   }
                   piece.y = moved(arrays.y, bytes);
                   piece.dy = moved(arrays.dy, bytes);
                   function(std::min(kPiece, count - first), piece);
                 }
               });
}

void LibraryOperator::forward_piece(std::int64_t count, const AttributeValues& attributes,
                                    std::int32_t dtype, const OperatorArrays& arrays) const {
  Frame frame(*this, attributes, dtype);
  frame.set_piece(count, arrays);
  call("forward", frame.given, table_.forward);
}

void LibraryOperator::backward_piece(std::int64_t count, const AttributeValues& attributes,
                                     std::int32_t dtype, const OperatorArrays& arrays) const {
  Frame frame(*this, attributes, dtype);
  frame.set_piece(count, arrays);
  hide_unread(frame);
  call("backward", frame.given, table_.backward);
}

void LibraryOperator::forward(const OperatorShapes& shapes, const AttributeValues& attributes,
                              std::int32_t dtype, const OperatorArrays& arrays) const {
  if (has(PYNN_POINTWISE))
    return in_pieces(shapes.y.count(), dtype, arrays,
                     [&](std::int64_t count, const OperatorArrays& piece) {
                       forward_piece(count, attributes, dtype, piece);
                     });
  Frame frame(*this, attributes, dtype);
  frame.set(shapes, arrays);
  call("forward", frame.given, table_.forward);
}

void LibraryOperator::backward(const OperatorShapes& shapes, const AttributeValues& attributes,
                               std::int32_t dtype, const OperatorArrays& arrays) const {
  if (has(PYNN_POINTWISE))
    return in_pieces(shapes.y.count(), dtype, arrays,
                     [&](std::int64_t count, const OperatorArrays& piece) {
                       backward_piece(count, attributes, dtype, piece);
                     });
  Frame frame(*this, attributes, dtype);
  frame.set(shapes, arrays);
  hide_unread(frame);
  call("backward", frame.given, table_.backward);
}

std::vector<LibraryOperator> read_library(const pynn_library* library, const std::string& name) {
  if (!library) throw LibraryError(message(name, ": pynn_get_library gave nothing"));
  if (library->abi_version > PYNN_ABI_VERSION)
    throw LibraryError(message(name, " was built for version ", library->abi_version,
                               " of pynn's operator ABI, this pynn (", host().version,
                               ") has version ", PYNN_ABI_VERSION,
                               ": upgrade pynn-core, or build the library against this version"));
  if (library->abi_version == 0 || library->size < offsetof(pynn_library, error))
    malformed(name, "it has no version");
  const char* const error = library->size >= sizeof(pynn_library) ? library->error : nullptr;
  if (error)
    throw LibraryError(message(name, ": its operators could not be described: ", readable(error)));
  if (library->operator_count <= 0 || !library->operators) malformed(name, "it has no operators");
  std::vector<LibraryOperator> operators;
  std::set<std::string> names;
  for (std::int32_t i = 0; i < library->operator_count; ++i) {
    operators.emplace_back(library->operators[i], name);
    if (!names.insert(operators.back().name()).second)
      throw LibraryError(
          message(name, " has two operators called '", operators.back().name(), "'"));
  }
  return operators;
}

}  // namespace pynn
