#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/window_arguments.h"
#include "kernels/pad2d.h"

namespace pynn {
namespace {

Pad2dShape to_pad2d_shape(const Shape& x, const Sides& sides) {
  return {x[0] * x[1], x[2], x[3], sides.top, sides.bottom, sides.left, sides.right};
}

py::array pad2d(py::handle x_object, py::handle padding, double value) {
  const py::array x = dense("x", x_object);
  const Sides sides = to_sides(padding);
  const Shape shape = pad2d_shape(shape_of(x), sides);
  const Pad2dShape s = to_pad2d_shape(shape_of(x), sides);
  py::array y = empty(shape, x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    ReleaseGil nogil(y.size());
    parallel_for(s.planes, s.OH() * s.OW(), [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().pad2d.forward(s, begin, end, static_cast<T>(value), x_data, y_data);
    });
  });
  return y;
}

py::array pad2d_backward(py::handle dy_object, py::handle padding) {
  const py::array dy = dense("dy", dy_object);
  const Sides sides = to_sides(padding);
  const Shape shape = pad2d_inverse_shape(shape_of(dy), sides);
  const Pad2dShape s = to_pad2d_shape(shape, sides);
  py::array dx = empty(shape, dy);
  by_dtype(dy, [&](auto zero) {
    using T = decltype(zero);
    const T* dy_data = data<T>(dy);
    T* dx_data = mutable_data<T>(dx);
    ReleaseGil nogil(dx.size());
    parallel_for(s.planes, s.H * s.W, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().pad2d.backward(s, begin, end, dy_data, dx_data);
    });
  });
  return dx;
}

}  // namespace

void bind_pad2d(py::module_& m) {
  using namespace py::literals;
  m.def("pad2d", &pad2d, "x"_a, "padding"_a, "value"_a);
  m.def("pad2d_backward", &pad2d_backward, "dy"_a, "padding"_a);
  m.def(
      "pad2d_shape",
      [](const Shape& x, py::handle padding) {
        return to_tuple(pad2d_shape(x, to_sides(padding)));
      },
      "x"_a, "padding"_a);
}

}  // namespace pynn
