#include "bindings/bindings.h"
#include "bindings/pointwise.h"

namespace pynn {
namespace {

py::array tanh(py::handle x) {
  return pointwise(x, 16, [](const auto& table) { return table.tanh.forward; });
}

py::array tanh_backward(py::handle dy, py::handle y) {
  return pointwise_backward(dy, "y", y, [](const auto& table) { return table.tanh.backward; });
}

}  // namespace

void bind_tanh(py::module_& m) {
  using namespace py::literals;
  m.def("tanh", &tanh, "x"_a);
  m.def("tanh_backward", &tanh_backward, "dy"_a, "y"_a);
}

}  // namespace pynn
