#include "bindings/bindings.h"
#include "bindings/pointwise.h"

namespace pynn {
namespace {

py::array sigmoid(py::handle x) {
  return pointwise(x, 16, [](const auto& table) { return table.sigmoid.forward; });
}

py::array sigmoid_backward(py::handle dy, py::handle y) {
  return pointwise_backward(dy, "y", y, [](const auto& table) { return table.sigmoid.backward; });
}

}  // namespace

void bind_sigmoid(py::module_& m) {
  using namespace py::literals;
  m.def("sigmoid", &sigmoid, "x"_a);
  m.def("sigmoid_backward", &sigmoid_backward, "dy"_a, "y"_a);
}

}  // namespace pynn
