// conv2d, linear, matmul and bias.
#include <array>

#include "bindings/window_arguments.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "shapes/dense.h"
#include "shapes/window.h"

namespace pynn::cuda {
namespace {

template <std::size_t count>
std::vector<bool> wanted(const std::array<bool, count>& needs) {
  return std::vector<bool>(needs.begin(), needs.end());
}

Conv2dShape to_conv2d_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b,
                            py::handle stride, py::handle padding, py::handle dilation,
                            std::int64_t groups) {
  return conv2d_shape(x, w, b, to_pair("stride", stride), to_padding(padding),
                      to_pair("dilation", dilation), groups);
}

py::array conv2d(py::handle x_object, py::handle w_object, py::handle b_object, py::handle stride,
                 py::handle padding, py::handle dilation, std::int64_t groups) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Conv2dShape s = to_conv2d_shape(shape_of(x), shape_of(w), optional_shape(b), stride,
                                        padding, dilation, groups);
  return forward({x, {w, true}, {b, true}}, output_shape(s), false,
                 [&](auto zero) { return make_conv2d<decltype(zero)>(s, Precision::fp32); });
}

py::tuple conv2d_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups, std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Conv2dShape s =
      to_conv2d_shape(shape_of(x), shape_of(w), std::nullopt, stride, padding, dilation, groups);
  require_shape("dy", dy, output_shape(s));
  const Gradients g =
      backward(dy, {x, {w, true}, Operand::unread({s.O}, true)}, wanted(needs), nullptr,
               [&](auto zero) { return make_conv2d<decltype(zero)>(s, Precision::fp32); });
  return py::make_tuple(object_of(g[0]), object_of(g[1]), object_of(g[2]));
}

py::array linear(py::handle x_object, py::handle w_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Shape y = linear_shape(shape_of(x), shape_of(w), optional_shape(b));
  return forward({x, {w, true}, {b, true}}, y, false, [&](auto zero) {
    return make_linear<decltype(zero)>(shape_of(x), shape_of(w), Precision::fp32);
  });
}

py::tuple linear_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  require_shape("dy", dy, linear_shape(shape_of(x), shape_of(w), std::nullopt));
  const Gradients g =
      backward(dy, {x, {w, true}, Operand::unread({w.shape(0)}, true)}, wanted(needs), nullptr,
               [&](auto zero) {
                 return make_linear<decltype(zero)>(shape_of(x), shape_of(w), Precision::fp32);
               });
  return py::make_tuple(object_of(g[0]), object_of(g[1]), object_of(g[2]));
}

auto make_product(const py::array& a, const py::array& b) {
  return [&](auto zero) {
    return make_matmul<decltype(zero)>(shape_of(a), true, shape_of(b), true, Precision::fp32);
  };
}

py::array matmul(py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  return forward({{a, true}, {b, true}}, matmul_shape(shape_of(a), shape_of(b)), true,
                 make_product(a, b));
}

py::tuple matmul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                          std::array<bool, 2> needs) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  require_shape("dy", dy, matmul_shape(shape_of(a), shape_of(b)));
  const Gradients g =
      backward({dy, true}, {{a, true}, {b, true}}, wanted(needs), nullptr, make_product(a, b));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::array bias(py::handle x_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array b = dense_as("b", b_object, x);
  return forward({x, {b, true}}, bias_shape(shape_of(x), shape_of(b)), false,
                 [&](auto zero) { return make_bias<decltype(zero)>(shape_of(x)); });
}

py::tuple bias_backward(py::handle dy_object, std::array<bool, 2> needs) {
  const py::array dy = dense("dy", dy_object);
  const Shape shape = shape_of(dy);
  if (shape.empty()) throw ShapeError("expected dy of shape (N, ...), got shape ()");
  const Shape sample(shape.begin() + 1, shape.end());
  const Gradients g =
      backward(dy, {Operand::unread(shape), Operand::unread(sample, true)}, wanted(needs), nullptr,
               [&](auto zero) { return make_bias<decltype(zero)>(shape); });
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

}  // namespace

void bind_products(py::module_& m) {
  using namespace py::literals;
  constexpr std::array<bool, 3> kAll{true, true, true};
  constexpr std::array<bool, 2> kBoth{true, true};
  m.def("conv2d", &conv2d, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  m.def("conv2d_backward", &conv2d_backward, "dy"_a, "x"_a, "w"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a, "needs"_a = kAll);
  m.def("linear", &linear, "x"_a, "w"_a, "b"_a);
  m.def("linear_backward", &linear_backward, "dy"_a, "x"_a, "w"_a, "needs"_a = kAll);
  m.def("matmul", &matmul, "a"_a, "b"_a);
  m.def("matmul_backward", &matmul_backward, "dy"_a, "a"_a, "b"_a, "needs"_a = kBoth);
  m.def("bias", &bias, "x"_a, "b"_a);
  m.def("bias_backward", &bias_backward, "dy"_a, "needs"_a = kBoth);
}

}  // namespace pynn::cuda
