#include "bindings/along_axis.h"
#include "bindings/bindings.h"

namespace pynn {
namespace {

py::array log_softmax(py::handle x, std::int64_t axis) {
  return along_axis(x, axis, [](const auto& table) { return table.log_softmax.forward; });
}

py::array log_softmax_backward(py::handle dy, py::handle y, std::int64_t axis) {
  return along_axis_backward(dy, y, axis,
                             [](const auto& table) { return table.log_softmax.backward; });
}

}  // namespace

void bind_log_softmax(py::module_& m) {
  using namespace py::literals;
  m.def("log_softmax", &log_softmax, "x"_a, "axis"_a);
  m.def("log_softmax_backward", &log_softmax_backward, "dy"_a, "y"_a, "axis"_a);
}

}  // namespace pynn
