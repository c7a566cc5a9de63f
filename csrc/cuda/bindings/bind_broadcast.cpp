// add, mul and concat.
#include <utility>

#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "shapes/arrangement.h"
#include "shapes/broadcast.h"

namespace pynn::cuda {
namespace {

auto make_arithmetic(bool product, const Shape& a, const Shape& b) {
  return [product, a, b](auto zero) {
    using T = decltype(zero);
    return product ? make_mul<T>(a, true, b, true) : make_add<T>(a, true, b, true);
  };
}

py::array arithmetic(bool product, py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  const Shape y = broadcast_shape(shape_of(a), shape_of(b));
  if (element_count(y) == 0) return empty(y, a);
  return forward({{a, true}, {b, true}}, y, true,
                 make_arithmetic(product, shape_of(a), shape_of(b)));
}

py::tuple add_backward(py::handle dy_object, const Shape& a, const Shape& b,
                       std::pair<bool, bool> needs) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, broadcast_shape(a, b));
  const Gradients g = backward({dy, true}, {Operand::unread(a, true), Operand::unread(b, true)},
                               {needs.first, needs.second}, nullptr, make_arithmetic(false, a, b));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::tuple mul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                       std::pair<bool, bool> needs) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  require_shape("dy", dy, broadcast_shape(shape_of(a), shape_of(b)));
  const Gradients g = backward({dy, true}, {{a, true}, {b, true}}, {needs.first, needs.second},
                               nullptr, make_arithmetic(true, shape_of(a), shape_of(b)));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::array concat(const std::vector<py::object>& objects, std::int64_t axis) {
  std::vector<py::array> arrays;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const std::string name = message("arrays[", i, "]");
    arrays.push_back(i == 0 ? dense(name.c_str(), objects[i])
                            : dense_as(name.c_str(), objects[i], arrays[0]));
    shapes.push_back(shape_of(arrays[i]));
  }
  const Shape y = concat_shape(shapes, axis);
  const std::vector<Operand> operands(arrays.begin(), arrays.end());
  return forward(operands, y, false,
                 [&](auto zero) { return make_concat<decltype(zero)>(shapes, axis); });
}

py::list concat_backward(py::handle dy_object, const Shape& sizes, std::int64_t axis) {
  const py::array dy = dense("dy", dy_object);
  Shape shape = shape_of(dy);
  axis = checked_axis(axis, shape);
  std::int64_t total = 0;
  bool negative = false;
  for (const std::int64_t size : sizes) {
    negative = negative || size < 0;
    total += size;
  }
  if (negative || total != shape[static_cast<std::size_t>(axis)])
    throw ShapeError(
        message("sizes ", sizes, " do not divide axis ", axis, " of dy, of shape ", shape));
  std::vector<Shape> shapes;
  std::vector<Operand> operands;
  for (const std::int64_t size : sizes) {
    shape[static_cast<std::size_t>(axis)] = size;
    shapes.push_back(shape);
    operands.push_back(Operand::unread(shape));
  }
  const Gradients g =
      backward(dy, operands, std::vector<bool>(sizes.size(), true), nullptr,
               [&](auto zero) { return make_concat<decltype(zero)>(shapes, axis); });
  py::list result;
  for (const auto& part : g) result.append(object_of(part));
  return result;
}

}  // namespace

void bind_broadcast(py::module_& m) {
  using namespace py::literals;
  m.def("add", [](py::handle a, py::handle b) { return arithmetic(false, a, b); }, "a"_a, "b"_a);
  m.def("mul", [](py::handle a, py::handle b) { return arithmetic(true, a, b); }, "a"_a, "b"_a);
  m.def("add_backward", &add_backward, "dy"_a, "a_shape"_a, "b_shape"_a,
        "needs"_a = std::pair(true, true));
  m.def("mul_backward", &mul_backward, "dy"_a, "a"_a, "b"_a, "needs"_a = std::pair(true, true));
  m.def("concat", &concat, "arrays"_a, "axis"_a);
  m.def("concat_backward", &concat_backward, "dy"_a, "sizes"_a, "axis"_a);
}

}  // namespace pynn::cuda
