#include "bindings/along_axis.h"
#include "bindings/bindings.h"
#include "shapes/normalisation.h"

namespace pynn {
namespace {

py::array softmax(py::handle x, std::int64_t axis) {
  return along_axis(x, axis, [](const auto& table) { return table.softmax.forward; });
}

py::array softmax_backward(py::handle dy, py::handle y, std::int64_t axis) {
  return along_axis_backward(dy, y, axis, [](const auto& table) { return table.softmax.backward; });
}

}  // namespace

void bind_softmax(py::module_& m) {
  using namespace py::literals;
  m.def("softmax", &softmax, "x"_a, "axis"_a);
  m.def("softmax_backward", &softmax_backward, "dy"_a, "y"_a, "axis"_a);
  m.def(
      "softmax_shape",
      [](const Shape& x, std::int64_t axis) { return to_tuple(softmax_shape(x, axis)); }, "x"_a,
      "axis"_a);
}

}  // namespace pynn
