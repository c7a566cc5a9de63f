// NumPy arrays at the border: what is accepted, made dense, allocated; and the GIL. Everything an
// operator's binding needs.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>

#include "bindings/release_gil.h"
#include "runtime/errors.h"
#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn {

namespace py = pybind11;

// The rule for arrays: float32 or float64 in the machine's byte order, any strides and alignment
// (made dense here, the one place), read-only or not. Everything else is a DTypeError that names
// the argument and says what to do.
py::array dense(const char* name, py::handle object);
// The same, and of the dtype of `like`: operators never cast.
py::array dense_as(const char* name, py::handle object, const py::array& like);
// The same, where None stands for an array that is absent.
std::optional<py::array> optional_dense_as(const char* name, py::handle object,
                                           const py::array& like);
// Whether an object is an array of NumPy's own class, not of one derived from it.
bool is_exact_array(py::handle object);
// Whether an object can be read as it is: a plain array of T of this shape, C-contiguous and
// aligned, in the machine's byte order.
template <typename T>
bool is_plain(py::handle object, const Shape& shape);

// An array updated in place: writable, C-contiguous, of the dtype of `like`. Otherwise a
// DTypeError.
py::array in_place(const char* name, py::handle object, const py::array& like);

Shape shape_of(const py::array& array);
std::optional<Shape> optional_shape(const std::optional<py::array>& array);
// ShapeError "dy must have shape (2, 3), got (2, 4)".
void require_shape(const char* name, const py::array& array, const Shape& expected);
py::tuple to_tuple(const Shape& shape);
Shape to_shape(py::handle sequence);  // from any sequence of ints

inline bool is_double(const py::array& array) { return array.itemsize() == 8; }

template <typename T>
const T* data(const py::array& array) {
  return static_cast<const T*>(array.data());
}
template <typename T>
const T* data(const std::optional<py::array>& array) {
  return array ? static_cast<const T*>(array->data()) : nullptr;
}
template <typename T>
T* mutable_data(py::array& array) {
  return static_cast<T*>(array.mutable_data());
}

// A new C-contiguous array; its memory is not initialised.
template <typename T>
py::array empty(const Shape& shape);
py::array empty(const Shape& shape, const py::array& like);

// Calls function(T{}) with T float or double, as the array's dtype says.
template <typename Function>
auto by_dtype(const py::array& array, Function&& function) {
  return is_double(array) ? function(double{}) : function(float{});
}

// For pointwise kernels: calls function(begin, end) over 0 ... size in blocks that only the size
// decides.
template <typename Function>
void parallel_pointwise(std::int64_t size, std::int64_t work_per_element,
                        const Function& function) {
  constexpr std::int64_t kBlock = 4096;
  parallel_for((size + kBlock - 1) / kBlock, kBlock * work_per_element,
               [&](std::int64_t begin, std::int64_t end) {
                 function(begin * kBlock, end * kBlock < size ? end * kBlock : size);
               });
}

}  // namespace pynn
