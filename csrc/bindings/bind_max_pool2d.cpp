#include <atomic>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/window_arguments.h"
#include "shapes/dense.h"

namespace pynn {
namespace {

py::tuple pool2d_geometry(const Shape& x, py::handle kernel_size, py::handle stride,
                          py::handle padding, bool ceil_mode) {
  const Window w = to_pool2d_window(x, kernel_size, stride, padding, ceil_mode);
  return py::make_tuple(to_tuple(output_shape(x, w)), to_tuple({w.stride_h, w.stride_w}),
                        padding_tuple(w), to_tuple({w.KH, w.KW}));
}

py::tuple max_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode) {
  const py::array x = dense("x", x_object);
  const Shape x_shape = shape_of(x);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  const Shape y_shape = output_shape(x_shape, w);
  py::array y = empty(y_shape, x);
  py::array_t<std::int64_t> argmax(y_shape);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    std::int64_t* argmax_data = argmax.mutable_data();
    const std::int64_t work = 2 * w.OH * w.OW * w.KH * w.KW;
    ReleaseGil nogil(x_shape[0] * x_shape[1] * work);
    parallel_for(x_shape[0] * x_shape[1], work, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().max_pool2d.forward(w, begin, end, x_data, y_data, argmax_data);
    });
  });
  return py::make_tuple(y, argmax);
}

py::array_t<std::int64_t> indices(const char* name, py::handle object) {
  if (!py::isinstance<py::array>(object) ||
      !py::reinterpret_borrow<py::array>(object).dtype().is(py::dtype::of<std::int64_t>()))
    throw DTypeError(message(name, " must be a NumPy array of int64, as max_pool2d returns it"));
  return py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(object);
}

py::array max_pool2d_backward(py::handle dy_object, py::handle argmax_object,
                              const Shape& x_shape) {
  const py::array dy = dense("dy", dy_object);
  const py::array_t<std::int64_t> argmax = indices("argmax", argmax_object);
  const Shape dy_shape = shape_of(dy);
  check_sizes("x_shape", x_shape);
  if (x_shape.size() != 4 || dy_shape.size() != 4 || x_shape[0] != dy_shape[0] ||
      x_shape[1] != dy_shape[1])
    throw ShapeError(message("dy must have shape (N, C, OH, OW) for an input of shape ", x_shape,
                             ", got ", dy_shape));
  require_shape("argmax", argmax, dy_shape);
  py::array dx = empty(x_shape, dy);
  std::atomic<bool> valid{true};
  const std::int64_t pixels = x_shape[2] * x_shape[3], positions = dy_shape[2] * dy_shape[3];
  by_dtype(dy, [&](auto zero) {
    using T = decltype(zero);
    const T* dy_data = data<T>(dy);
    const std::int64_t* argmax_data = argmax.data();
    T* dx_data = mutable_data<T>(dx);
    ReleaseGil nogil(dx.size() + dy.size());
    parallel_for(x_shape[0] * x_shape[1], pixels + positions,
                 [&](std::int64_t begin, std::int64_t end) {
                   if (!isa_table<T>().max_pool2d.backward(pixels, positions, begin, end, dy_data,
                                                           argmax_data, dx_data))
                     valid = false;
                 });
  });
  if (!valid)
    throw ShapeError(message("argmax has an entry outside 0..", pixels - 1,
                             ", the pixels of an input of shape ", x_shape));
  return dx;
}

}  // namespace

void bind_max_pool2d(py::module_& m) {
  using namespace py::literals;
  m.def("pool2d_geometry", &pool2d_geometry, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a,
        "ceil_mode"_a);
  m.def("max_pool2d", &max_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a);
  m.def("max_pool2d_backward", &max_pool2d_backward, "dy"_a, "argmax"_a, "x_shape"_a);
}

}  // namespace pynn
