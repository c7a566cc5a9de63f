// flatten and reshape: copies under another shape.
#include <algorithm>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/arrangement.h"

namespace pynn {
namespace {

py::array copy_as(const py::array& x, const Shape& shape) {
  py::array y = empty(shape, x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t size = x.size();
    ReleaseGil nogil(size);
    parallel_pointwise(size, 1, [=](std::int64_t begin, std::int64_t end) {
      std::copy(x_data + begin, x_data + end, y_data + begin);
    });
  });
  return y;
}

py::array flatten(py::handle x_object, std::int64_t start_axis) {
  const py::array x = dense("x", x_object);
  return copy_as(x, flatten_shape(shape_of(x), start_axis));
}

py::array reshape(py::handle x_object, const Shape& shape) {
  const py::array x = dense("x", x_object);
  return copy_as(x, reshape_shape(shape_of(x), shape));
}

}  // namespace

void bind_reshape(py::module_& m) {
  using namespace py::literals;
  m.def("flatten", &flatten, "x"_a, "start_axis"_a);
  m.def("reshape", &reshape, "x"_a, "shape"_a);
  m.def(
      "flatten_shape",
      [](const Shape& x, std::int64_t start_axis) {
        return to_tuple(flatten_shape(x, start_axis));
      },
      "x"_a, "start_axis"_a);
  m.def(
      "reshape_shape",
      [](const Shape& x, const Shape& shape) { return to_tuple(reshape_shape(x, shape)); }, "x"_a,
      "shape"_a);
}

}  // namespace pynn
