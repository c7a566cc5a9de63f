#include "bindings/bindings.h"
#include "bindings/pointwise.h"

namespace pynn {
namespace {

py::array relu(py::handle x) {
  return pointwise(x, 1, [](const auto& table) { return table.relu.forward; });
}

py::array relu_backward(py::handle dy, py::handle y) {
  return pointwise_backward(dy, "y", y, [](const auto& table) { return table.relu.backward; });
}

}  // namespace

void bind_relu(py::module_& m) {
  using namespace py::literals;
  m.def("relu", &relu, "x"_a);
  m.def("relu_backward", &relu_backward, "dy"_a, "y"_a);
}

}  // namespace pynn
