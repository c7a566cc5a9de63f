#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/window_arguments.h"

namespace pynn {
namespace {

py::array avg_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode, bool count_include_pad) {
  const py::array x = dense("x", x_object);
  const Shape x_shape = shape_of(x);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  py::array y = empty(output_shape(x_shape, w), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t planes = x_shape[0] * x_shape[1], work = 2 * w.OH * w.OW * w.KH * w.KW;
    ReleaseGil nogil(planes * work);
    parallel_for(planes, work, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().avg_pool2d.forward(w, count_include_pad, begin, end, x_data, y_data);
    });
  });
  return y;
}

py::array avg_pool2d_backward(py::handle dy_object, const Shape& x_shape, py::handle kernel_size,
                              py::handle stride, py::handle padding, bool ceil_mode,
                              bool count_include_pad) {
  const py::array dy = dense("dy", dy_object);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  require_shape("dy", dy, output_shape(x_shape, w));
  py::array dx = empty(x_shape, dy);
  by_dtype(dy, [&](auto zero) {
    using T = decltype(zero);
    const T* dy_data = data<T>(dy);
    T* dx_data = mutable_data<T>(dx);
    const std::int64_t planes = x_shape[0] * x_shape[1], work = 2 * w.OH * w.OW * w.KH * w.KW;
    ReleaseGil nogil(planes * work);
    parallel_for(planes, work, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().avg_pool2d.backward(w, count_include_pad, begin, end, dy_data, dx_data);
    });
  });
  return dx;
}

py::array global_avg_pool2d(py::handle x_object) {
  const py::array x = dense("x", x_object);
  const Shape x_shape = shape_of(x);
  py::array y = empty(global_avg_pool2d_shape(x_shape), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t pixels = x_shape[2] * x_shape[3];
    ReleaseGil nogil(x.size());
    parallel_for(x_shape[0] * x_shape[1], pixels, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().avg_pool2d.global_forward(pixels, begin, end, x_data, y_data);
    });
  });
  return y;
}

py::array global_avg_pool2d_backward(py::handle dy_object, const Shape& x_shape) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, global_avg_pool2d_shape(x_shape));
  py::array dx = empty(x_shape, dy);
  by_dtype(dy, [&](auto zero) {
    using T = decltype(zero);
    const T* dy_data = data<T>(dy);
    T* dx_data = mutable_data<T>(dx);
    const std::int64_t pixels = x_shape[2] * x_shape[3];
    ReleaseGil nogil(dx.size());
    parallel_for(x_shape[0] * x_shape[1], pixels, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().avg_pool2d.global_backward(pixels, begin, end, dy_data, dx_data);
    });
  });
  return dx;
}

}  // namespace

void bind_avg_pool2d(py::module_& m) {
  using namespace py::literals;
  m.def("avg_pool2d", &avg_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a,
        "count_include_pad"_a);
  m.def("avg_pool2d_backward", &avg_pool2d_backward, "dy"_a, "x_shape"_a, "kernel_size"_a,
        "stride"_a, "padding"_a, "ceil_mode"_a, "count_include_pad"_a);
  m.def(
      "global_avg_pool2d_shape",
      [](const Shape& x) { return to_tuple(global_avg_pool2d_shape(x)); }, "x"_a);
  m.def("global_avg_pool2d", &global_avg_pool2d, "x"_a);
  m.def("global_avg_pool2d_backward", &global_avg_pool2d_backward, "dy"_a, "x_shape"_a);
}

}  // namespace pynn
