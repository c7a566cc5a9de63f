#include <utility>

#include "bindings/bindings.h"
#include "bindings/broadcast_walk.h"

namespace pynn {
namespace {

py::array add(py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  return broadcast_arrays(a, b, [](const auto& table) { return table.add.forward; });
}

py::object gradient_of(bool needed, const py::array& dy, const Shape& shape) {
  if (!needed) return py::none();
  return reduce_to(shape, shape_of(dy), dy, [&](const auto& walk, auto begin, auto end, auto* da) {
    using T = std::remove_pointer_t<decltype(da)>;
    isa_table<T>().add.backward(walk, begin, end, data<T>(dy), da);
  });
}

py::tuple add_backward(py::handle dy_object, const Shape& a_shape, const Shape& b_shape,
                       std::pair<bool, bool> needs) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, broadcast_shape(a_shape, b_shape));
  return py::make_tuple(gradient_of(needs.first, dy, a_shape),
                        gradient_of(needs.second, dy, b_shape));
}

}  // namespace

void bind_add(py::module_& m) {
  using namespace py::literals;
  m.def("add", &add, "a"_a, "b"_a);
  m.def("add_backward", &add_backward, "dy"_a, "a_shape"_a, "b_shape"_a,
        "needs"_a = std::pair(true, true));
  m.def(
      "broadcast_shape",
      [](const Shape& a, const Shape& b) { return to_tuple(broadcast_shape(a, b)); }, "a"_a, "b"_a);
}

}  // namespace pynn
