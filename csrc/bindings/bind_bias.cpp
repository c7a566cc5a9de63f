#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/dense.h"

namespace pynn {
namespace {

py::array bias(py::handle x_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array b = dense_as("b", b_object, x);
  const Shape x_shape = shape_of(x);
  py::array y = empty(bias_shape(x_shape, shape_of(b)), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *b_data = data<T>(b);
    T* y_data = mutable_data<T>(y);
    const std::int64_t columns = b.size();
    ReleaseGil nogil(x.size());
    parallel_for(x_shape[0], columns, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().bias.forward(end - begin, columns, x_data + begin * columns, b_data,
                                  y_data + begin * columns);
    });
  });
  return y;
}

py::tuple bias_backward(py::handle dy_object, std::array<bool, 2> needs) {
  const py::array dy = dense("dy", dy_object);
  const Shape shape = shape_of(dy);
  if (shape.empty()) throw ShapeError("expected dy of shape (N, ...), got shape ()");
  py::object dx = py::none(), db = py::none();
  if (needs[0]) dx = dy.attr("copy")();
  if (needs[1]) {
    const Shape sample(shape.begin() + 1, shape.end());
    py::array result = empty(sample, dy);
    by_dtype(dy, [&](auto zero) {
      using T = decltype(zero);
      const T* dy_data = data<T>(dy);
      T* db_data = mutable_data<T>(result);
      const std::int64_t rows = shape[0], columns = element_count(sample);
      ReleaseGil nogil(dy.size());
      parallel_for(columns, rows, [=](std::int64_t begin, std::int64_t end) {
        isa_table<T>().bias.backward(rows, columns, begin, end, dy_data, db_data);
      });
    });
    db = result;
  }
  return py::make_tuple(dx, db);
}

}  // namespace

void bind_bias(py::module_& m) {
  using namespace py::literals;
  m.def(
      "bias_shape", [](const Shape& x, const Shape& b) { return to_tuple(bias_shape(x, b)); },
      "x"_a, "b"_a);
  m.def("bias", &bias, "x"_a, "b"_a);
  m.def("bias_backward", &bias_backward, "dy"_a, "needs"_a = std::array<bool, 2>{true, true});
}

}  // namespace pynn
