// What the bindings of softmax and log_softmax share.
#pragma once

#include "bindings/arrays.h"
#include "kernels/softmax.h"
#include "shapes/arrangement.h"

namespace pynn {

inline SoftmaxShape lines_along(const Shape& shape, std::int64_t axis) {
  const AxisSplit split = split_at(shape, checked_axis(axis, shape));
  return {split.outer, split.axis, split.inner};
}

constexpr std::int64_t kWorkPerExponential = 20;

// y = kernel(x) along the axis; `select` takes a table of kernels and gives the kernel.
template <typename Select>
py::array along_axis(py::handle x_object, std::int64_t axis, Select select) {
  const py::array x = dense("x", x_object);
  const SoftmaxShape shape = lines_along(shape_of(x), axis);
  py::array y = empty(shape_of(x), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    ReleaseGil nogil(x.size() * kWorkPerExponential);
    parallel_for(shape.lines(), shape.axis * kWorkPerExponential,
                 [=](std::int64_t begin, std::int64_t end) {
                   select(isa_table<T>())(shape, begin, end, x_data, y_data);
                 });
  });
  return y;
}

// dx = kernel(dy, y) along the axis.
template <typename Select>
py::array along_axis_backward(py::handle dy_object, py::handle y_object, std::int64_t axis,
                              Select select) {
  const py::array y = dense("y", y_object);
  const py::array dy = dense_as("dy", dy_object, y);
  require_shape("dy", dy, shape_of(y));
  const SoftmaxShape shape = lines_along(shape_of(y), axis);
  py::array dx = empty(shape_of(y), y);
  by_dtype(y, [&](auto zero) {
    using T = decltype(zero);
    const T *dy_data = data<T>(dy), *y_data = data<T>(y);
    T* dx_data = mutable_data<T>(dx);
    ReleaseGil nogil(y.size() * kWorkPerExponential);
    parallel_for(shape.lines(), shape.axis * kWorkPerExponential,
                 [=](std::int64_t begin, std::int64_t end) {
                   select(isa_table<T>())(shape, begin, end, dy_data, y_data, dx_data);
                 });
  });
  return dx;
}

}  // namespace pynn
