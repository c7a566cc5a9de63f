#include "bindings/arrays.h"

namespace pynn {
namespace {

std::string type_name(py::handle object) {
  return py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>();
}

[[noreturn]] void refuse(const char* name, const std::string& what) {
  throw DTypeError(std::string(name) + " must be a NumPy array of float32 or float64, got " + what);
}

constexpr int kDenseFlags =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

}  // namespace

bool is_exact_array(py::handle object) {
  return reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) ==
         reinterpret_cast<PyObject*>(py::detail::npy_api::get().PyArray_Type_);
}

py::array dense(const char* name, py::handle object) {
  if (!py::isinstance<py::array>(object)) refuse(name, type_name(object));
  auto array = py::reinterpret_borrow<py::array>(object);
  if (!is_exact_array(object)) {
    if (py::hasattr(object, "mask"))
      refuse(name, "a masked array; fill it first, with " + std::string(name) + ".filled(value)");
    array = object.attr("view")(py::module_::import("numpy").attr("ndarray"));
  }
  const py::dtype dtype = array.dtype();
  const bool is_float = dtype.num() == py::detail::npy_api::NPY_FLOAT_;
  const bool is_double = dtype.num() == py::detail::npy_api::NPY_DOUBLE_;
  if (!is_float && !is_double)
    refuse(name, "dtype " + py::str(dtype).cast<std::string>() + "; convert it first, with " +
                     name + ".astype('float32')");
  if (dtype.byteorder() != '=')
    refuse(name, "the other byte order (dtype " + py::str(dtype).cast<std::string>() +
                     "); convert it first, with " + name +
                     (is_float ? ".astype('float32')" : ".astype('float64')"));
  if ((array.flags() & kDenseFlags) == kDenseFlags) return array;
  return is_double
             ? py::array(py::array_t<double, py::array::c_style | py::array::forcecast>(array))
             : py::array(py::array_t<float, py::array::c_style | py::array::forcecast>(array));
}

py::array dense_as(const char* name, py::handle object, const py::array& like) {
  py::array array = dense(name, object);
  if (is_double(array) != is_double(like))
    throw DTypeError(std::string(name) + " is " + (is_double(array) ? "float64" : "float32") +
                     " but the other arrays are " + (is_double(like) ? "float64" : "float32") +
                     "; operators never cast: convert one of them with astype");
  return array;
}

template <typename T>
bool is_plain(py::handle object, const Shape& shape) {
  if (!is_exact_array(object)) return false;
  const auto* const array = py::detail::array_proxy(object.ptr());
  const auto* const dtype = py::detail::array_descriptor_proxy(array->descr);
  if (dtype->type_num != py::dtype::num_of<T>() || dtype->byteorder != '=' ||
      (array->flags & kDenseFlags) != kDenseFlags || array->nd != static_cast<int>(shape.size()))
    return false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (array->dimensions[axis] != shape[axis]) return false;
  return true;
}
template bool is_plain<float>(py::handle, const Shape&);
template bool is_plain<double>(py::handle, const Shape&);
template bool is_plain<std::int64_t>(py::handle, const Shape&);

std::optional<py::array> optional_dense_as(const char* name, py::handle object,
                                           const py::array& like) {
  if (object.is_none()) return std::nullopt;
  return dense_as(name, object, like);
}

py::array in_place(const char* name, py::handle object, const py::array& like) {
  if (!py::isinstance<py::array>(object)) refuse(name, type_name(object));
  auto array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().is(like.dtype()))
    throw DTypeError(std::string(name) + " must be " + py::str(like.dtype()).cast<std::string>() +
                     ", got " + py::str(array.dtype()).cast<std::string>());
  if (!array.writeable() || (array.flags() & kDenseFlags) != kDenseFlags)
    throw DTypeError(std::string(name) +
                     " is updated in place and must be a writable, C-contiguous array");
  return array;
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

std::optional<Shape> optional_shape(const std::optional<py::array>& array) {
  return array ? std::optional<Shape>(shape_of(*array)) : std::nullopt;
}

void require_shape(const char* name, const py::array& array, const Shape& expected) {
  if (shape_of(array) != expected)
    throw ShapeError(message(name, " must have shape ", expected, ", got ", shape_of(array)));
}

py::tuple to_tuple(const Shape& shape) {
  py::tuple tuple(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) tuple[i] = py::int_(shape[i]);
  return tuple;
}

Shape to_shape(py::handle sequence) { return sequence.cast<Shape>(); }

template <typename T>
py::array empty(const Shape& shape) {
  const auto& numpy = py::detail::npy_api::get();
  Py_intptr_t sizes[32];
  if (shape.size() > std::size(sizes)) throw ShapeError("an array has at most 32 axes");
  std::copy(shape.begin(), shape.end(), sizes);
  PyObject* const array = numpy.PyArray_NewFromDescr_(
      numpy.PyArray_Type_, py::dtype::of<T>().release().ptr(), static_cast<int>(shape.size()),
      sizes, nullptr, nullptr, 0, nullptr);
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(array);
}
template py::array empty<float>(const Shape&);
template py::array empty<double>(const Shape&);

py::array empty(const Shape& shape, const py::array& like) {
  return is_double(like) ? empty<double>(shape) : empty<float>(shape);
}

}  // namespace pynn
