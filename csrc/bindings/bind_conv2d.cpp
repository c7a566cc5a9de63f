#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/window_arguments.h"
#include "plan/conv2d_call.h"
#include "threaded/conv2d.h"

namespace pynn {
namespace {

py::tuple conv2d_geometry(const Shape& x, const Shape& w, const std::optional<Shape>& b,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups) {
  const Conv2dShape s = conv2d_shape(x, w, b, to_pair("stride", stride), to_padding(padding),
                                     to_pair("dilation", dilation), groups);
  return py::make_tuple(to_tuple(output_shape(s)), to_tuple({s.window.stride_h, s.window.stride_w}),
                        padding_tuple(s.window),
                        to_tuple({s.window.dilation_h, s.window.dilation_w}));
}

py::array conv2d(py::handle x_object, py::handle w_object, py::handle b_object, py::handle stride,
                 py::handle padding, py::handle dilation, std::int64_t groups) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Conv2dShape s =
      conv2d_shape(shape_of(x), shape_of(w), optional_shape(b), to_pair("stride", stride),
                   to_padding(padding), to_pair("dilation", dilation), groups);
  py::array y = empty(output_shape(s), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *w_data = data<T>(w), *b_data = data<T>(b);
    T* y_data = mutable_data<T>(y);
    ReleaseGil nogil(threaded::work_of(s));
    planned::conv2d(s, x_data, w_data, b_data, y_data);
  });
  return y;
}

py::tuple conv2d_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups, std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Conv2dShape s =
      conv2d_shape(shape_of(x), shape_of(w), std::nullopt, to_pair("stride", stride),
                   to_padding(padding), to_pair("dilation", dilation), groups);
  require_shape("dy", dy, output_shape(s));
  const Shape shapes[3] = {shape_of(x), shape_of(w), {s.O}};
  std::optional<py::array> gradients[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (needs[i]) gradients[i] = empty(shapes[i], x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *w_data = data<T>(w), *dy_data = data<T>(dy);
    T* out[3] = {};
    for (std::size_t i = 0; i < 3; ++i)
      if (gradients[i]) out[i] = mutable_data<T>(*gradients[i]);
    ReleaseGil nogil(threaded::work_of(s));
    planned::conv2d_backward(s, dy_data, x_data, w_data, out[0], out[1], out[2]);
  });
  const auto object = [&](std::size_t i) -> py::object {
    return gradients[i] ? py::object(*gradients[i]) : py::object(py::none());
  };
  return py::make_tuple(object(0), object(1), object(2));
}

}  // namespace

void bind_conv2d(py::module_& m) {
  using namespace py::literals;
  m.def("conv2d_geometry", &conv2d_geometry, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a);
  m.def("conv2d", &conv2d, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  m.def("conv2d_backward", &conv2d_backward, "dy"_a, "x"_a, "w"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a, "needs"_a = std::array<bool, 3>{true, true, true});
}

}  // namespace pynn
