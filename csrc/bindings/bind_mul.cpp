#include <utility>

#include "bindings/bindings.h"
#include "bindings/broadcast_walk.h"

namespace pynn {
namespace {

py::array product(const py::array& a, const py::array& b) {
  return broadcast_arrays(a, b, [](const auto& table) { return table.mul.forward; });
}

py::array mul(py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object);
  return product(a, dense_as("b", b_object, a));
}

// The gradient of the factor of that shape; `other` is the other one.
py::object gradient_of(bool needed, const py::array& dy, const Shape& shape,
                       const py::array& other) {
  if (!needed) return py::none();
  if (shape == shape_of(dy)) return product(dy, other);
  return reduce_to(shape, shape_of(other), dy,
                   [&](const auto& walk, auto begin, auto end, auto* da) {
                     using T = std::remove_pointer_t<decltype(da)>;
                     isa_table<T>().mul.backward(walk, begin, end, data<T>(dy), data<T>(other), da);
                   });
}

py::tuple mul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                       std::pair<bool, bool> needs) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  require_shape("dy", dy, broadcast_shape(shape_of(a), shape_of(b)));
  return py::make_tuple(gradient_of(needs.first, dy, shape_of(a), b),
                        gradient_of(needs.second, dy, shape_of(b), a));
}

}  // namespace

void bind_mul(py::module_& m) {
  using namespace py::literals;
  m.def("mul", &mul, "a"_a, "b"_a);
  m.def("mul_backward", &mul_backward, "dy"_a, "a"_a, "b"_a, "needs"_a = std::pair(true, true));
}

}  // namespace pynn
