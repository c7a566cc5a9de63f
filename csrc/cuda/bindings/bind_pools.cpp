// max_pool2d, avg_pool2d, global_avg_pool2d and pad2d.
#include "bindings/window_arguments.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "cuda/kernels/max_pool2d.h"
#include "cuda/runtime/session.h"
#include "shapes/arrangement.h"
#include "shapes/window.h"

namespace pynn::cuda {
namespace {

template <typename T, typename Code>
void indices_of(const Window& w, const Shape& x, Bench<T>& bench, const char* saved,
                py::array_t<std::int64_t>& argmax) {
  const std::int64_t planes = x[1], N = x[0], positions = planes * w.OH * w.OW;
  auto* const device =
      reinterpret_cast<std::int64_t*>(bench.bytes(bytes_of<std::int64_t>(N * positions)));
  max_pool2d_indices(w, planes, N, reinterpret_cast<const Code*>(saved), device, stream());
  std::vector<std::int64_t> columns(static_cast<std::size_t>(N * positions));
  copy_to_host(columns.data(), device, static_cast<std::int64_t>(columns.size() * 8));
  std::int64_t* const to = argmax.mutable_data();
  for (std::int64_t p = 0; p < positions; ++p)
    for (std::int64_t n = 0; n < N; ++n)
      to[n * positions + p] = columns[static_cast<std::size_t>(p * N + n)];
}

py::tuple max_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode) {
  const py::array x = dense("x", x_object);
  const Shape x_shape = shape_of(x);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  const Shape y_shape = output_shape(x_shape, w);
  py::array_t<std::int64_t> argmax(y_shape);
  py::array y = by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const OperationPointer<T> operation = make_max_pool2d<T>(w, x_shape);
    Bench<T> bench;
    Call<T> c;
    run_forward(bench, *operation, {x}, element_count(y_shape), c);
    if (w.KH * w.KW <= 256)
      indices_of<T, std::uint8_t>(w, x_shape, bench, c.saved, argmax);
    else
      indices_of<T, std::int32_t>(w, x_shape, bench, c.saved, argmax);
    return bench.get(c.y, y_shape, false);
  });
  return py::make_tuple(y, argmax);
}

py::array avg_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode, bool count_include_pad) {
  const py::array x = dense("x", x_object);
  const Shape shape = shape_of(x);
  const Window w = to_pool2d_window(shape, kernel_size, stride, padding, ceil_mode);
  return forward({x}, output_shape(shape, w), false, [&](auto zero) {
    return make_avg_pool2d<decltype(zero)>(w, count_include_pad, shape);
  });
}

py::array avg_pool2d_backward(py::handle dy_object, const Shape& x_shape, py::handle kernel_size,
                              py::handle stride, py::handle padding, bool ceil_mode,
                              bool count_include_pad) {
  const py::array dy = dense("dy", dy_object);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  require_shape("dy", dy, output_shape(x_shape, w));
  return *backward(dy, {Operand::unread(x_shape)}, {true}, nullptr, [&](auto zero) {
    return make_avg_pool2d<decltype(zero)>(w, count_include_pad, x_shape);
  })[0];
}

py::array global_avg_pool2d(py::handle x_object) {
  const py::array x = dense("x", x_object);
  const Shape shape = shape_of(x);
  return forward({x}, global_avg_pool2d_shape(shape), false,
                 [&](auto zero) { return make_global_avg_pool2d<decltype(zero)>(shape); });
}

py::array global_avg_pool2d_backward(py::handle dy_object, const Shape& x_shape) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, global_avg_pool2d_shape(x_shape));
  return *backward(dy, {Operand::unread(x_shape)}, {true}, nullptr,
                   [&](auto zero) { return make_global_avg_pool2d<decltype(zero)>(x_shape); })[0];
}

py::array pad2d(py::handle x_object, py::handle padding, double value) {
  const py::array x = dense("x", x_object);
  const Sides sides = to_sides(padding);
  return forward({x}, pad2d_shape(shape_of(x), sides), false,
                 [&](auto zero) { return make_pad2d<decltype(zero)>(shape_of(x), sides, value); });
}

py::array pad2d_backward(py::handle dy_object, py::handle padding) {
  const py::array dy = dense("dy", dy_object);
  const Sides sides = to_sides(padding);
  const Shape x = pad2d_inverse_shape(shape_of(dy), sides);
  return *backward(dy, {Operand::unread(x)}, {true}, nullptr,
                   [&](auto zero) { return make_pad2d<decltype(zero)>(x, sides, 0); })[0];
}

}  // namespace

void bind_pools(py::module_& m) {
  using namespace py::literals;
  m.def("max_pool2d", &max_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a);
  m.def("avg_pool2d", &avg_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a,
        "count_include_pad"_a);
  m.def("avg_pool2d_backward", &avg_pool2d_backward, "dy"_a, "x_shape"_a, "kernel_size"_a,
        "stride"_a, "padding"_a, "ceil_mode"_a, "count_include_pad"_a);
  m.def("global_avg_pool2d", &global_avg_pool2d, "x"_a);
  m.def("global_avg_pool2d_backward", &global_avg_pool2d_backward, "dy"_a, "x_shape"_a);
  m.def("pad2d", &pad2d, "x"_a, "padding"_a, "value"_a);
  m.def("pad2d_backward", &pad2d_backward, "dy"_a, "padding"_a);
}

}  // namespace pynn::cuda
