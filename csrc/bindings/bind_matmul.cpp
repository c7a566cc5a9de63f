#include <numeric>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/dense.h"
#include "threaded/products.h"

namespace pynn {
namespace {

// a (a_count, M, K) @ b (b_count, K, N) -> y (y_count, M, N): matrix i of y is made from matrices
// a_of[i] and b_of[i].
struct Batches {
  std::int64_t M, N, K, a_count, b_count;
  std::vector<std::int64_t> a_of, b_of;
};

// For each matrix of the broadcast `leading` axes, its ordinal among those of `own`.
std::vector<std::int64_t> ordinals(const Shape& leading, const Shape& own) {
  std::vector<std::int64_t> result{0};
  const std::size_t missing = leading.size() - own.size();
  for (std::size_t axis = 0; axis < leading.size(); ++axis) {
    const std::int64_t own_size = axis < missing ? 1 : own[axis - missing];
    std::vector<std::int64_t> next;
    next.reserve(result.size() * static_cast<std::size_t>(leading[axis]));
    for (const std::int64_t ordinal : result)
      for (std::int64_t i = 0; i < leading[axis]; ++i)
        next.push_back(ordinal * own_size + (own_size == 1 ? 0 : i));
    result = std::move(next);
  }
  return result;
}

Batches batches_of(const Shape& a, const Shape& b, const Shape& y) {
  Batches s;
  s.M = y[y.size() - 2];
  s.N = y.back();
  s.K = a.back();
  const Shape leading_a(a.begin(), a.end() - 2), leading_b(b.begin(), b.end() - 2);
  const Shape leading(y.begin(), y.end() - 2);
  if (leading_b.empty()) {  // one matrix for all: their rows make one tall matrix
    s.M *= element_count(leading_a);
    s.a_count = s.b_count = 1;
    s.a_of = s.b_of = {0};
    return s;
  }
  s.a_count = element_count(leading_a);
  s.b_count = element_count(leading_b);
  s.a_of = ordinals(leading, leading_a);
  s.b_of = ordinals(leading, leading_b);
  return s;
}

// The matrices of y that each of `count` matrices took part in, and the other matrix of the
// product.
Terms terms_of(std::int64_t count, const std::vector<std::int64_t>& part_of,
               const std::vector<std::int64_t>& other_of, bool y_first) {
  Terms terms;
  terms.first.assign(static_cast<std::size_t>(count) + 1, 0);
  for (const std::int64_t part : part_of) ++terms.first[static_cast<std::size_t>(part) + 1];
  std::partial_sum(terms.first.begin(), terms.first.end(), terms.first.begin());
  terms.terms.resize(part_of.size());
  std::vector<std::int64_t> next = terms.first;
  for (std::size_t i = 0; i < part_of.size(); ++i) {
    const auto y = static_cast<std::int64_t>(i);
    auto& place = next[static_cast<std::size_t>(part_of[i])];
    terms.terms[static_cast<std::size_t>(place++)] =
        y_first ? Terms::Term{y, other_of[i]} : Terms::Term{other_of[i], y};
  }
  return terms;
}

py::array matmul(py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  const Shape a_shape = shape_of(a), b_shape = shape_of(b);
  const Shape y_shape = matmul_shape(a_shape, b_shape);
  const Batches s = batches_of(a_shape, b_shape, y_shape);
  Terms terms;
  terms.first.resize(s.a_of.size() + 1);
  std::iota(terms.first.begin(), terms.first.end(), 0);
  terms.terms.resize(s.a_of.size());
  for (std::size_t i = 0; i < s.a_of.size(); ++i) terms.terms[i] = {s.a_of[i], s.b_of[i]};
  py::array y = empty(y_shape, a);
  by_dtype(a, [&](auto zero) {
    using T = decltype(zero);
    Gemm<T> product;
    product.M = s.M, product.N = s.N, product.K = s.K;
    product.a = data<T>(a), product.a_row = s.K, product.a_column = 1;
    product.b = data<T>(b), product.b_row = s.N, product.b_column = 1;
    product.c = mutable_data<T>(y), product.c_row = s.N;
    ReleaseGil nogil(work_of(product, terms));
    multiply(product, terms, s.M * s.K, s.K * s.N);
  });
  return y;
}

py::tuple matmul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                          std::array<bool, 2> needs) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  const Shape a_shape = shape_of(a), b_shape = shape_of(b);
  const Shape y_shape = matmul_shape(a_shape, b_shape);
  require_shape("dy", dy, y_shape);
  const Batches s = batches_of(a_shape, b_shape, y_shape);
  py::object da = py::none(), db = py::none();
  by_dtype(a, [&](auto zero) {
    using T = decltype(zero);
    if (needs[0]) {  // da = dy b^T
      py::array result = empty(a_shape, a);
      const Terms terms = terms_of(s.a_count, s.a_of, s.b_of, true);
      Gemm<T> product;
      product.M = s.M, product.N = s.K, product.K = s.N;
      product.a = data<T>(dy), product.a_row = s.N, product.a_column = 1;
      product.b = data<T>(b), product.b_row = 1, product.b_column = s.N;
      product.c = mutable_data<T>(result), product.c_row = s.K;
      {
        ReleaseGil nogil(work_of(product, terms));
        multiply(product, terms, s.M * s.N, s.K * s.N);
      }
      da = result;
    }
    if (needs[1]) {  // db = a^T dy
      py::array result = empty(b_shape, a);
      const Terms terms = terms_of(s.b_count, s.b_of, s.a_of, false);
      Gemm<T> product;
      product.M = s.K, product.N = s.N, product.K = s.M;
      product.a = data<T>(a), product.a_row = 1, product.a_column = s.K;
      product.b = data<T>(dy), product.b_row = s.N, product.b_column = 1;
      product.c = mutable_data<T>(result), product.c_row = s.N;
      {
        ReleaseGil nogil(work_of(product, terms));
        multiply(product, terms, s.M * s.K, s.M * s.N);
      }
      db = result;
    }
  });
  return py::make_tuple(da, db);
}

}  // namespace

void bind_matmul(py::module_& m) {
  using namespace py::literals;
  m.def(
      "matmul_shape", [](const Shape& a, const Shape& b) { return to_tuple(matmul_shape(a, b)); },
      "a"_a, "b"_a);
  m.def("matmul", &matmul, "a"_a, "b"_a);
  m.def("matmul_backward", &matmul_backward, "dy"_a, "a"_a, "b"_a,
        "needs"_a = std::array<bool, 2>{true, true});
}

}  // namespace pynn
