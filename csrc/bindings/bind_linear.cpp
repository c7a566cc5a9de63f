#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/dense.h"
#include "threaded/products.h"

namespace pynn {
namespace {

std::int64_t rows_of(const Shape& x) { return element_count(Shape(x.begin(), x.end() - 1)); }

py::array linear(py::handle x_object, py::handle w_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Shape x_shape = shape_of(x), w_shape = shape_of(w);
  py::array y = empty(linear_shape(x_shape, w_shape, optional_shape(b)), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    Gemm<T> product;  // x w^T + b
    product.M = rows_of(x_shape), product.N = w_shape[0], product.K = w_shape[1];
    product.a = data<T>(x), product.a_row = product.K, product.a_column = 1;
    product.b = data<T>(w), product.b_row = 1, product.b_column = product.K;
    product.c = mutable_data<T>(y), product.c_row = product.N;
    product.column_start = data<T>(b);
    ReleaseGil nogil(work_of(product, {}));
    multiply(product);
  });
  return y;
}

py::tuple linear_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Shape x_shape = shape_of(x), w_shape = shape_of(w);
  require_shape("dy", dy, linear_shape(x_shape, w_shape, std::nullopt));
  const std::int64_t rows = rows_of(x_shape), outputs = w_shape[0], inputs = w_shape[1];
  py::object dx = py::none(), dw = py::none(), db = py::none();
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    if (needs[0]) {
      py::array result = empty(x_shape, x);
      Gemm<T> product;  // dy w
      product.M = rows, product.N = inputs, product.K = outputs;
      product.a = data<T>(dy), product.a_row = outputs, product.a_column = 1;
      product.b = data<T>(w), product.b_row = inputs, product.b_column = 1;
      product.c = mutable_data<T>(result), product.c_row = inputs;
      {
        ReleaseGil nogil(work_of(product, {}));
        multiply(product);
      }
      dx = result;
    }
    if (needs[1]) {
      py::array result = empty(w_shape, x);
      Gemm<T> product;  // dy^T x
      product.M = outputs, product.N = inputs, product.K = rows;
      product.a = data<T>(dy), product.a_row = 1, product.a_column = outputs;
      product.b = data<T>(x), product.b_row = inputs, product.b_column = 1;
      product.c = mutable_data<T>(result), product.c_row = inputs;
      {
        ReleaseGil nogil(work_of(product, {}));
        multiply(product);
      }
      dw = result;
    }
    if (needs[2]) {
      py::array result = empty({outputs}, x);
      const T* dy_data = data<T>(dy);
      T* db_data = mutable_data<T>(result);
      {
        ReleaseGil nogil(rows * outputs);
        parallel_for(outputs, rows, [=](std::int64_t begin, std::int64_t end) {
          isa_table<T>().bias.backward(rows, outputs, begin, end, dy_data, db_data);
        });
      }
      db = result;
    }
  });
  return py::make_tuple(dx, dw, db);
}

}  // namespace

void bind_linear(py::module_& m) {
  using namespace py::literals;
  m.def(
      "linear_shape",
      [](const Shape& x, const Shape& w, const std::optional<Shape>& b) {
        return to_tuple(linear_shape(x, w, b));
      },
      "x"_a, "w"_a, "b"_a);
  m.def("linear", &linear, "x"_a, "w"_a, "b"_a);
  m.def("linear_backward", &linear_backward, "dy"_a, "x"_a, "w"_a,
        "needs"_a = std::array<bool, 3>{true, true, true});
}

}  // namespace pynn
