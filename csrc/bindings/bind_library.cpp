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

std::int64_t to_integer(py::handle object) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!index) throw py::error_already_set();
  return index.cast<std::int64_t>();
}

// The value of an attribute as plain Python: bool, int, float, str or a tuple of ints.
py::object plain(const LibraryOperator& op, const pynn_attribute& attribute, py::handle value) {
  const auto refuse = [&](const char* kind) {
    throw py::type_error(
        message(op.name(), ": ", attribute.name, " must be ", kind, ", got ", python_text(value)));
  };
  switch (attribute.type) {
    case PYNN_BOOL: {
      const bool numpy_bool =
          py::str(py::type::handle_of(value).attr("__name__")).cast<std::string>() == "bool";
      if (!PyBool_Check(value.ptr()) && !numpy_bool) refuse("a bool");
      return py::bool_(py::reinterpret_borrow<py::object>(value));
    }
    case PYNN_INTEGER:
      if (!is_integer(value)) refuse("an int");
      return py::int_(to_integer(value));
    case PYNN_REAL: {
      const bool number = !PyBool_Check(value.ptr()) && !PyUnicode_Check(value.ptr()) &&
                          !PyBytes_Check(value.ptr()) && PyNumber_Check(value.ptr());
      const double real = number ? PyFloat_AsDouble(value.ptr()) : 0;
      if (!number || (real == -1 && PyErr_Occurred())) {
        PyErr_Clear();
        refuse("a float");
      }
      return py::float_(real);
    }
    case PYNN_TEXT:
      if (!PyUnicode_Check(value.ptr())) refuse("a str");
      return py::reinterpret_borrow<py::object>(value);
    default: {
      if (PyUnicode_Check(value.ptr()) || !PySequence_Check(value.ptr())) refuse("a list of ints");
      const auto sequence = py::reinterpret_borrow<py::sequence>(value);
      py::tuple integers(sequence.size());
      for (std::size_t i = 0; i < sequence.size(); ++i) {
        const py::object item = sequence[i];
        if (!is_integer(item)) refuse("a list of ints");
        integers[i] = py::int_(to_integer(item));
      }
      return std::move(integers);
    }
  }
}

py::object default_of(const pynn_attribute& attribute) {
  const pynn_value& value = attribute.default_value;
  switch (attribute.type) {
    case PYNN_BOOL:
      return py::bool_(value.integer != 0);
    case PYNN_INTEGER:
      return py::int_(value.integer);
    case PYNN_REAL:
      return py::float_(value.real);
    case PYNN_TEXT:
      return py::str(value.text);
    default:
      return to_tuple(Shape(value.integers, value.integers + value.count));
  }
}

// All attributes of a call, with their defaults; TypeError where one is unknown, missing or of
// another type.
py::dict complete(const LibraryOperator& op, const py::dict& given) {
  py::dict result;
  std::size_t used = 0;
  for (const pynn_attribute& attribute : op.attributes()) {
    const py::str name(attribute.name);
    if (given.contains(name)) {
      ++used;
      result[name] = plain(op, attribute, given[name]);
    } else if (!attribute.required) {
      result[name] = default_of(attribute);
    } else {
      throw py::type_error(message(op.name(), ": ", attribute.name, " is missing"));
    }
  }
  if (used < given.size())
    for (const auto& [name, value] : given)
      if (!result.contains(name)) {
        std::string known;
        for (const pynn_attribute& attribute : op.attributes())
          known += (known.empty() ? "" : ", ") + std::string(attribute.name);
        throw py::type_error(message(op.name(), " has no attribute ", python_text(name),
                                     "; it has ", known.empty() ? "none" : known));
      }
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

// Working memory, aligned to 64 bytes, and the array that owns it.
class Bytes {
 public:
  explicit Bytes(std::int64_t bytes) : owner_(bytes > 0 ? bytes + 63 : 0) {
    const auto address = reinterpret_cast<std::uintptr_t>(owner_.data());
    data_ = bytes > 0 ? owner_.mutable_data() + (64 - address % 64) % 64 : nullptr;
  }
  void* data() const { return data_; }
  py::array owner() const { return owner_; }

 private:
  py::array_t<std::uint8_t> owner_;
  std::uint8_t* data_;
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
      const py::gil_scoped_release nogil;
      op_->forward(shapes, attributes, dtype, arrays);
    }
    return py::make_tuple(y, saved.owner());
  }

  // Gradients, None where not wanted. `saved` is what forward gave.
  py::tuple backward(const py::object& dy_object, const py::sequence& objects, const py::object& y,
                     const py::array& saved, const std::vector<bool>& needs, const py::dict& given,
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
    const auto address = reinterpret_cast<std::uintptr_t>(saved.data());
    if (memory.saved > 0)
      arrays.saved = static_cast<char*>(const_cast<void*>(saved.data())) + (64 - address % 64) % 64;
    arrays.workspace = workspace.data();
    {
      const py::gil_scoped_release nogil;
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
    const py::gil_scoped_release nogil;
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
    const py::gil_scoped_release nogil;
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
    list.append(
        py::make_tuple(input.name, input.doc ? input.doc : "", (input.flags & PYNN_OPTIONAL) != 0,
                       (input.flags & PYNN_PARAMETER) != 0, (input.flags & PYNN_NO_GRADIENT) == 0));
  return list;
}

py::list describe_attributes(const PyOperator& self) {
  static constexpr const char* kTypes[] = {"", "bool", "int", "float", "str", "tuple[int, ...]"};
  py::list list;
  for (const pynn_attribute& attribute : self.op().attributes())
    list.append(
        py::make_tuple(attribute.name, attribute.doc ? attribute.doc : "", kTypes[attribute.type],
                       attribute.required != 0,
                       attribute.required ? py::object(py::none()) : default_of(attribute)));
  return list;
}

py::list describe_samples(const PyOperator& self) {
  static constexpr const char* kKinds[] = {"", "case", "refusal", "benchmark"};
  py::list list;
  for (const pynn_sample& sample : self.op().samples())
    list.append(py::make_tuple(kKinds[sample.kind], sample.name, sample.shapes,
                               sample.attributes ? sample.attributes : "",
                               sample.message ? sample.message : ""));
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
  const py::dict values = complete(op, given);
  AttributeValues result;
  for (const pynn_attribute& attribute : op.attributes()) {
    const py::object value = values[attribute.name];
    pynn_value number{};
    switch (attribute.type) {
      case PYNN_BOOL:
        number.integer = value.cast<bool>() ? 1 : 0;
        result.add(number);
        break;
      case PYNN_INTEGER:
        number.integer = value.cast<std::int64_t>();
        result.add(number);
        break;
      case PYNN_REAL:
        number.real = value.cast<double>();
        result.add(number);
        break;
      case PYNN_TEXT:
        result.add_text(value.cast<std::string>());
        break;
      default:
        result.add_integers(value.cast<Shape>());
    }
  }
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
      .def("backward", &PyOperator::backward, "dy"_a, "arrays"_a, "y"_a, "saved"_a, "needs"_a,
           "attributes"_a, "seed"_a = 0, "random"_a = Random{})
      .def("forward_into", &PyOperator::forward_into, "arrays"_a, "y"_a, "saved"_a, "workspace"_a,
           "attributes"_a, "seed"_a = 0, "random"_a = Random{})
      .def("backward_into", &PyOperator::backward_into, "dy"_a, "arrays"_a, "y"_a, "saved"_a,
           "workspace"_a, "gradients"_a, "attributes"_a, "seed"_a = 0, "random"_a = Random{});
}

}  // namespace pynn
