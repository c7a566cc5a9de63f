#include "bindings/bindings.h"
#include "bindings/pointwise.h"

namespace pynn {
namespace {

py::array leaky_relu(py::handle x, double negative_slope) {
  return pointwise(
      x, 1, [](const auto& table) { return table.leaky_relu.forward; }, negative_slope);
}

py::array leaky_relu_backward(py::handle dy, py::handle x, double negative_slope) {
  return pointwise_backward(
      dy, "x", x, [](const auto& table) { return table.leaky_relu.backward; }, negative_slope);
}

}  // namespace

void bind_leaky_relu(py::module_& m) {
  using namespace py::literals;
  m.def("leaky_relu", &leaky_relu, "x"_a, "negative_slope"_a);
  m.def("leaky_relu_backward", &leaky_relu_backward, "dy"_a, "x"_a, "negative_slope"_a);
}

}  // namespace pynn
