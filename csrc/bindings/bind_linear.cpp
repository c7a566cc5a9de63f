#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/dense.h"
#include "threaded/linear.h"

namespace pynn {
namespace {

std::int64_t rows_of(const Shape& x) { return element_count(Shape(x.begin(), x.end() - 1)); }

py::array linear(py::handle x_object, py::handle w_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Shape x_shape = shape_of(x), w_shape = shape_of(w);
  py::array y = empty(linear_shape(x_shape, w_shape, optional_shape(b)), x);
  const FewRowsShape s{rows_of(x_shape), w_shape[1], w_shape[0]};
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *w_data = data<T>(w), *b_data = data<T>(b);
    T* y_data = mutable_data<T>(y);
    ReleaseGil nogil(threaded::work_of(s));
    threaded::linear(s, x_data, w_data, b_data, y_data);
  });
  return y;
}

py::tuple linear_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Shape x_shape = shape_of(x), w_shape = shape_of(w);
  require_shape("dy", dy, linear_shape(x_shape, w_shape, std::nullopt));
  const FewRowsShape s{rows_of(x_shape), w_shape[1], w_shape[0]};
  const Shape shapes[3] = {x_shape, w_shape, {s.outputs}};
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
    if (out[0]) threaded::linear_backward_input(s, dy_data, w_data, out[0]);
    if (out[1]) threaded::linear_backward_weight(s, dy_data, x_data, out[1]);
    if (out[2]) threaded::linear_backward_bias(s, dy_data, out[2]);
  });
  const auto object = [&](std::size_t i) -> py::object {
    return gradients[i] ? py::object(*gradients[i]) : py::object(py::none());
  };
  return py::make_tuple(object(0), object(1), object(2));
}

}  // namespace

void bind_linear(py::module_& m) {
  using namespace py::literals;
  m.def(
      "linear_shape",
      [](const Shape& x, const Shape& w, const std::optional<Shape>& b) {
        return to_tuple(linear_shape(x, w, b));
      },
      "x"_a, "w"_a, "b"_a);
  m.def("linear", &linear, "x"_a, "w"_a, "b"_a);
  m.def("linear_backward", &linear_backward, "dy"_a, "x"_a, "w"_a,
        "needs"_a = std::array<bool, 3>{true, true, true});
}

}  // namespace pynn
