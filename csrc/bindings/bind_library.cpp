#include <algorithm>
#include <memory>
#include <string>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/library.h"
#include "bindings/random.h"
#include "host/host.h"

namespace pynn {
namespace {

std::int32_t type_of(const py::array& array) {
  return is_double(array) ? PYNN_FLOAT64 : PYNN_FLOAT32;
}

std::string python_text(py::handle object) { return py::repr(object).cast<std::string>(); }

bool is_integer(py::handle object) {
  return !PyBool_Check(object.ptr()) && PyIndex_Check(object.ptr()) &&
         !PySequence_Check(object.ptr());
}

// None where 64 bits do not hold it.
std::optional<std::int64_t> to_integer(py::handle object) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!index) throw py::error_already_set();
  int overflow = 0;
  const std::int64_t value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) return std::nullopt;
  return value;
}

// None where UTF-8 that ends with 0, as operators are given it, cannot say it.
std::optional<std::string> to_text(py::handle object) {
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (!text) {
    PyErr_Clear();
    return std::nullopt;
  }
  std::string result(text, static_cast<std::size_t>(size));
  if (result.find('\0') != std::string::npos) return std::nullopt;
  return result;
}

// The value of an attribute, and the memory that it points into.
struct AttributeValue {
  pynn_value number{};
  std::string text;
  Shape integers;
};

// TypeError where it is not of the attribute's type, ValueError where the type does not hold it.
AttributeValue read_value(const LibraryOperator& op, const pynn_attribute& attribute,
                          py::handle value) {
  const auto refuse = [&](const char* kind) {
    throw py::type_error(
        message(op.name(), ": ", attribute.name, " must be ", kind, ", got ", python_text(value)));
  };
  const auto held = [&](auto converted, const char* bound) {
    if (!converted)
      throw std::invalid_argument(
          message(op.name(), ": ", attribute.name, " must ", bound, ", got ", python_text(value)));
    return *converted;
  };
  const char* const kIntegers = "be within -2^63 ... 2^63 - 1";
  AttributeValue result;
  switch (attribute.type) {
    case PYNN_BOOL: {
      const bool numpy_bool =
          !PyBool_Check(value.ptr()) &&
          py::str(py::type::handle_of(value).attr("__name__")).cast<std::string>() == "bool";
      if (!PyBool_Check(value.ptr()) && !numpy_bool) refuse("a bool");
      result.number.integer = PyObject_IsTrue(value.ptr());
      break;
    }
    case PYNN_INTEGER:
      if (!is_integer(value)) refuse("an int");
      result.number.integer = held(to_integer(value), kIntegers);
      break;
    case PYNN_REAL: {
      const bool number = PyFloat_Check(value.ptr()) ||
                          (!PyBool_Check(value.ptr()) && !PyUnicode_Check(value.ptr()) &&
                           !PyBytes_Check(value.ptr()) && PyNumber_Check(value.ptr()));
      result.number.real = number ? PyFloat_AsDouble(value.ptr()) : 0;
      if (!number || (result.number.real == -1 && PyErr_Occurred())) {
        PyErr_Clear();
        refuse("a float");
      }
      break;
    }
    case PYNN_TEXT:
      if (!PyUnicode_Check(value.ptr())) refuse("a str");
      result.text = held(to_text(value), "have neither surrogates nor a character 0");
      break;
    default: {
      if (PyUnicode_Check(value.ptr()) || !PySequence_Check(value.ptr()) ||
          PySequence_Size(value.ptr()) < 0) {
        PyErr_Clear();
        refuse("a list of ints");
      }
      const auto sequence = py::reinterpret_borrow<py::sequence>(value);
      for (std::size_t i = 0; i < sequence.size(); ++i) {
        const py::object item = sequence[i];
        if (!is_integer(item)) refuse("a list of ints");
        result.integers.push_back(held(to_integer(item), kIntegers));
      }
    }
  }
  return result;
}

py::object to_python(std::int32_t type, const AttributeValue& value) {
  switch (type) {
    case PYNN_BOOL:
      return py::bool_(value.number.integer != 0);
    case PYNN_INTEGER:
      return py::int_(value.number.integer);
    case PYNN_REAL:
      return py::float_(value.number.real);
    case PYNN_TEXT:
      return py::str(value.text);
    default:
      return to_tuple(value.integers);
  }
}

AttributeValue default_of(const pynn_attribute& attribute) {
  AttributeValue result;
  result.number = attribute.default_value;
  if (attribute.type == PYNN_TEXT) result.text = attribute.default_value.text;
  if (attribute.type == PYNN_INTEGERS)
    result.integers.assign(attribute.default_value.integers,
                           attribute.default_value.integers + attribute.default_value.count);
  return result;
}

// A reference of its own, since another thread may change the dictionary; null where there is none.
py::object item_of(const py::dict& dict, const char* name) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* value = nullptr;
  if (PyDict_GetItemStringRef(dict.ptr(), name, &value) < 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
#else
  return py::reinterpret_borrow<py::object>(PyDict_GetItemString(dict.ptr(), name));
#endif
}

// Calls take(attribute, value) for all attributes of a call, with their defaults; TypeError where
// one is unknown, missing or of another type.
template <typename Take>
void for_each_attribute(const LibraryOperator& op, const py::dict& given, const Take& take) {
  std::size_t used = 0;
  for (const pynn_attribute& attribute : op.attributes()) {
    if (const py::object value = item_of(given, attribute.name)) {
      ++used;
      take(attribute, read_value(op, attribute, value));
    } else if (!attribute.required) {
      take(attribute, default_of(attribute));
    } else {
      throw py::type_error(message(op.name(), ": ", attribute.name, " is missing"));
    }
  }
  if (used == given.size()) return;
  std::string known;
  for (const pynn_attribute& attribute : op.attributes())
    known += (known.empty() ? "" : ", ") + std::string(attribute.name);
  for (const py::handle name : py::list(given)) {
    const auto text = py::str(name).cast<std::string>();
    if (std::none_of(op.attributes().begin(), op.attributes().end(),
                     [&](const pynn_attribute& attribute) { return text == attribute.name; }))
      throw py::type_error(message(op.name(), " has no attribute ", python_text(name), "; it has ",
                                   known.empty() ? "none" : known));
  }
}

py::dict complete(const LibraryOperator& op, const py::dict& given) {
  py::dict result;
  for_each_attribute(op, given, [&](const pynn_attribute& attribute, const AttributeValue& value) {
    result[attribute.name] = to_python(attribute.type, value);
  });
  return result;
}

std::vector<std::optional<Shape>> shapes_of(const std::vector<std::optional<py::array>>& arrays) {
  std::vector<std::optional<Shape>> shapes;
  for (const auto& array : arrays) shapes.push_back(optional_shape(array));
  return shapes;
}

std::vector<std::optional<py::array>> dense_inputs(const LibraryOperator& op,
                                                   const py::sequence& objects) {
  const std::vector<pynn_input>& inputs = op.inputs();
  if (objects.size() != inputs.size())
    throw py::type_error(
        message(op.name(), " takes ", inputs.size(), " arrays, got ", objects.size()));
  std::vector<std::optional<py::array>> arrays;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const py::object object = objects[i];
    if (i == 0)
      arrays.emplace_back(dense(inputs[i].name, object));
    else if ((inputs[i].flags & PYNN_OPTIONAL) != 0)
      arrays.push_back(optional_dense_as(inputs[i].name, object, *arrays[0]));
    else
      arrays.emplace_back(dense_as(inputs[i].name, object, *arrays[0]));
  }
  return arrays;
}

void* aligned(void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<char*>(data) + (64 - address % 64) % 64;
}

// Working memory, aligned to 64 bytes, and the array that owns it; None where there is none.
class Bytes {
 public:
  explicit Bytes(std::int64_t bytes) {
    if (bytes == 0) return;
    py::array_t<std::uint8_t> array(bytes + 63);
    data_ = aligned(array.mutable_data());
    owner_ = std::move(array);
  }
  void* data() const { return data_; }
  const py::object& owner() const { return owner_; }

 private:
  py::object owner_ = py::none();
  void* data_ = nullptr;
};

void* bytes_in(const py::object& object) {
  return object.is_none() ? nullptr : object.cast<py::array>().mutable_data();
}

using Random = std::array<std::int64_t, 3>;  // step, node, first sample

pynn_random random_of(std::uint64_t seed, const Random& random) {
  return {seed, low_word(random[0]), low_word(random[1]), low_word(random[2]), 0};
}

// An operator of a library, for Python. `arrays` are dense; those that the caller gives to write to
// are used as they are.
class PyOperator {
 public:
  explicit PyOperator(LibraryOperator op) : op_(std::make_shared<LibraryOperator>(std::move(op))) {}

  const LibraryOperator& op() const { return *op_; }
  std::shared_ptr<const LibraryOperator> shared() const { return op_; }

  py::tuple shape(const std::vector<std::optional<Shape>>& inputs, const py::dict& given) const {
    return to_tuple(op_->shapes(inputs, attribute_values(*op_, given)).y.sizes);
  }

  py::object flops(const std::vector<std::optional<Shape>>& inputs, const py::dict& given) const {
    const AttributeValues attributes = attribute_values(*op_, given);
    const auto count = op_->flops(op_->shapes(inputs, attributes), attributes);
    return count ? py::object(py::int_(*count)) : py::object(py::none());
  }

  // Bytes that forward leaves for backward, and of the workspace forward and backward.
  py::tuple memory(const std::vector<std::optional<Shape>>& inputs, bool is_double,
                   const py::dict& given) const {
    const AttributeValues attributes = attribute_values(*op_, given);
    const OperatorMemory memory = op_->memory(op_->shapes(inputs, attributes), attributes,
                                              is_double ? PYNN_FLOAT64 : PYNN_FLOAT32);
    return py::make_tuple(memory.saved, memory.forward, memory.backward);
  }

  // (y, what backward needs beside the arrays).
  py::tuple forward(const py::sequence& objects, const py::dict& given, std::uint64_t seed,
                    const Random& random) const {
    const auto inputs = dense_inputs(*op_, objects);
    const AttributeValues attributes = attribute_values(*op_, given);
    const std::int32_t dtype = type_of(*inputs[0]);
    const OperatorShapes shapes = op_->shapes(shapes_of(inputs), attributes);
    const OperatorMemory memory = op_->memory(shapes, attributes, dtype);
    py::array y = empty(shapes.y.sizes, *inputs[0]);
    const Bytes saved(memory.saved), workspace(memory.forward);
    OperatorArrays arrays = arrays_of(inputs, seed, random);
    arrays.y = y.mutable_data();
    arrays.saved = saved.data();
    arrays.workspace = workspace.data();
    {
      const ReleaseGil nogil;
      op_->forward(shapes, attributes, dtype, arrays);
    }
    return py::make_tuple(y, saved.owner());
  }

  // y alone.
  py::object call(const py::sequence& objects, const py::dict& given, std::uint64_t seed,
                  const Random& random) const {
    return forward(objects, given, seed, random)[0];
  }

  // Gradients, None where not wanted. `saved` is what forward gave.
  py::tuple backward(const py::object& dy_object, const py::sequence& objects, const py::object& y,
                     const py::object& saved, const std::vector<bool>& needs, const py::dict& given,
                     std::uint64_t seed, const Random& random) const {
    const auto inputs = dense_inputs(*op_, objects);
    const py::array dy = dense_as("dy", dy_object, *inputs[0]);
    const std::optional<py::array> y_array = optional_dense_as("y", y, *inputs[0]);
    const AttributeValues attributes = attribute_values(*op_, given);
    const std::int32_t dtype = type_of(*inputs[0]);
    const OperatorShapes shapes = op_->shapes(shapes_of(inputs), attributes);
    require_shape("dy", dy, shapes.y.sizes);
    const OperatorMemory memory = op_->memory(shapes, attributes, dtype);
    const Bytes workspace(memory.backward);
    OperatorArrays arrays = arrays_of(inputs, seed, random);
    py::tuple result(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      result[i] = py::none();
      if (i >= needs.size() || !needs[i] || !inputs[i] || !op_->has_gradient(i)) continue;
      py::array gradient = empty(shape_of(*inputs[i]), *inputs[i]);
      arrays.gradients[i] = gradient.mutable_data();
      result[i] = gradient;
    }
    arrays.dy = dy.data();
    if (y_array) arrays.y = const_cast<void*>(y_array->data());
    if (memory.saved > 0) arrays.saved = aligned(bytes_in(saved));
    arrays.workspace = workspace.data();
    {
      const ReleaseGil nogil;
      op_->backward(shapes, attributes, dtype, arrays);
    }
    return result;
  }

  // For tests: every array, saved and workspace (of bytes, or None) are the caller's, dense and of
  // the right sizes.
  void forward_into(const py::sequence& objects, py::array y, const py::object& saved,
                    const py::object& workspace, const py::dict& given, std::uint64_t seed,
                    const Random& random) const {
    const auto inputs = dense_inputs(*op_, objects);
    const AttributeValues attributes = attribute_values(*op_, given);
    const OperatorShapes shapes = op_->shapes(shapes_of(inputs), attributes);
    require_shape("y", y, shapes.y.sizes);
    OperatorArrays arrays = arrays_of(inputs, seed, random);
    arrays.y = y.mutable_data();
    arrays.saved = bytes_in(saved);
    arrays.workspace = bytes_in(workspace);
    const ReleaseGil nogil;
    op_->forward(shapes, attributes, type_of(*inputs[0]), arrays);
  }
  void backward_into(const py::array& dy, const py::sequence& objects, py::array y,
                     const py::object& saved, const py::object& workspace,
                     const py::sequence& gradients, const py::dict& given, std::uint64_t seed,
                     const Random& random) const {
    const auto inputs = dense_inputs(*op_, objects);
    const AttributeValues attributes = attribute_values(*op_, given);
    const OperatorShapes shapes = op_->shapes(shapes_of(inputs), attributes);
    require_shape("dy", dy, shapes.y.sizes);
    OperatorArrays arrays = arrays_of(inputs, seed, random);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const py::object gradient = gradients[i];
      if (gradient.is_none()) continue;
      auto array = gradient.cast<py::array>();
      require_shape("gradient", array, shapes.inputs[i].sizes);
      arrays.gradients[i] = array.mutable_data();
    }
    arrays.y = y.mutable_data();
    arrays.dy = dy.data();
    arrays.saved = bytes_in(saved);
    arrays.workspace = bytes_in(workspace);
    const ReleaseGil nogil;
    op_->backward(shapes, attributes, type_of(*inputs[0]), arrays);
  }

 private:
  static OperatorArrays arrays_of(const std::vector<std::optional<py::array>>& inputs,
                                  std::uint64_t seed, const Random& random) {
    OperatorArrays arrays;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i]) arrays.inputs[i] = inputs[i]->data();
    arrays.random = random_of(seed, random);
    return arrays;
  }

  const std::shared_ptr<LibraryOperator> op_;
};

py::list describe_inputs(const PyOperator& self) {
  py::list list;
  for (const pynn_input& input : self.op().inputs())
    list.append(py::make_tuple(input.name, readable(input.doc), (input.flags & PYNN_OPTIONAL) != 0,
                               (input.flags & PYNN_PARAMETER) != 0,
                               (input.flags & PYNN_NO_GRADIENT) == 0));
  return list;
}

py::list describe_attributes(const PyOperator& self) {
  static constexpr const char* kTypes[] = {"", "bool", "int", "float", "str", "tuple[int, ...]"};
  py::list list;
  for (const pynn_attribute& attribute : self.op().attributes())
    list.append(py::make_tuple(
        attribute.name, readable(attribute.doc), kTypes[attribute.type], attribute.required != 0,
        attribute.required ? py::object(py::none())
                           : to_python(attribute.type, default_of(attribute))));
  return list;
}

py::list describe_samples(const PyOperator& self) {
  static constexpr const char* kKinds[] = {"", "case", "refusal", "benchmark"};
  py::list list;
  for (const pynn_sample& sample : self.op().samples())
    list.append(py::make_tuple(kKinds[sample.kind], readable(sample.name), readable(sample.shapes),
                               readable(sample.attributes), readable(sample.message)));
  return list;
}

// The operators of a library that a capsule points to.
py::list read(const py::capsule& capsule, const std::string& name) {
  const char* const kind = capsule.name();
  if (!kind || std::string(kind) != PYNN_LIBRARY_CAPSULE)
    throw LibraryError(message(name, ": the capsule is called '", kind ? kind : "", "', not '",
                               PYNN_LIBRARY_CAPSULE, "'"));
  py::list list;
  for (LibraryOperator& op : read_library(static_cast<const pynn_library*>(capsule), name))
    list.append(py::cast(std::make_unique<PyOperator>(std::move(op))));
  return list;
}

}  // namespace

AttributeValues attribute_values(const LibraryOperator& op, const py::dict& given) {
  AttributeValues result;
  for_each_attribute(op, given, [&](const pynn_attribute& attribute, AttributeValue value) {
    if (attribute.type == PYNN_TEXT)
      result.add_text(std::move(value.text));
    else if (attribute.type == PYNN_INTEGERS)
      result.add_integers(std::move(value.integers));
    else
      result.add(value.number);
  });
  return result;
}

std::shared_ptr<const LibraryOperator> library_operator(py::handle object) {
  return object.is_none() ? nullptr : object.cast<const PyOperator&>().shared();
}

void bind_library(py::module_& m) {
  using namespace py::literals;
  m.attr("host") = py::capsule(&host(), PYNN_HOST_CAPSULE);
  m.attr("abi_version") = PYNN_ABI_VERSION;
  m.def("read_library", &read, "capsule"_a, "name"_a);
  py::class_<PyOperator>(m, "LibraryOperator")
      .def_property_readonly("name", [](const PyOperator& o) { return o.op().name(); })
      .def_property_readonly("library", [](const PyOperator& o) { return o.op().library(); })
      .def_property_readonly("doc", [](const PyOperator& o) { return o.op().doc(); })
      .def_property_readonly("inputs", &describe_inputs)
      .def_property_readonly("attributes", &describe_attributes)
      .def_property_readonly("samples", &describe_samples)
      .def_property_readonly("pointwise",
                             [](const PyOperator& o) { return o.op().has(PYNN_POINTWISE); })
      .def_property_readonly("per_sample", [](const PyOperator& o) { return o.op().per_sample(); })
      .def_property_readonly("random", [](const PyOperator& o) { return o.op().has(PYNN_RANDOM); })
      .def_property_readonly("differentiable",
                             [](const PyOperator& o) { return o.op().has_backward(); })
      .def_property_readonly(
          "never_fails", [](const PyOperator& o) { return o.op().has(PYNN_BACKWARD_NEVER_FAILS); })
      .def(
          "complete",
          [](const PyOperator& o, const py::dict& given) { return complete(o.op(), given); },
          "attributes"_a)
      .def("shape", &PyOperator::shape, "shapes"_a, "attributes"_a)
      .def("flops", &PyOperator::flops, "shapes"_a, "attributes"_a)
      .def("memory", &PyOperator::memory, "shapes"_a, "is_double"_a, "attributes"_a)
      .def("forward", &PyOperator::forward, "arrays"_a, "attributes"_a, "seed"_a = 0,
           "random"_a = Random{})
      .def("__call__", &PyOperator::call, "arrays"_a, "attributes"_a, "seed"_a = 0,
           "random"_a = Random{})
      .def("backward", &PyOperator::backward, "dy"_a, "arrays"_a, "y"_a, "saved"_a, "needs"_a,
           "attributes"_a, "seed"_a = 0, "random"_a = Random{})
      .def("forward_into", &PyOperator::forward_into, "arrays"_a, "y"_a, "saved"_a, "workspace"_a,
           "attributes"_a, "seed"_a = 0, "random"_a = Random{})
      .def("backward_into", &PyOperator::backward_into, "dy"_a, "arrays"_a, "y"_a, "saved"_a,
           "workspace"_a, "gradients"_a, "attributes"_a, "seed"_a = 0, "random"_a = Random{});
}

}  // namespace pynn
