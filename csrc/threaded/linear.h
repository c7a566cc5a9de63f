// Dense layers of arrays on several threads: x, dx (rows, inputs), w, dw (outputs, inputs),
// b (outputs,), y, dy (rows, outputs).
#pragma once

#include "threaded/few_rows.h"
#include "threaded/products.h"

namespace pynn::threaded {

// y = x w^T + b; b may be null. Overwrites y.
template <typename T>
void linear(const FewRowsShape& s, const T* x, const T* w, const T* b, T* y) {
  if (s.rows <= kFewRows) return linear(s, x, w, b, false, false, y);
  Gemm<T> product;
  product.M = s.rows, product.N = s.outputs, product.K = s.inputs;
  product.a = x, product.a_row = s.inputs, product.a_column = 1;
  product.b = w, product.b_row = 1, product.b_column = s.inputs;
  product.c = y, product.c_row = s.outputs;
  product.column_start = b;
  multiply(product);
}

// dx = dy w. Overwrites dx.
template <typename T>
void linear_backward_input(const FewRowsShape& s, const T* dy, const T* w, T* dx) {
  if (s.rows <= kFewRows) return linear_backward_input<T>(s, dy, w, nullptr, dx);
  Gemm<T> product;
  product.M = s.rows, product.N = s.inputs, product.K = s.outputs;
  product.a = dy, product.a_row = s.outputs, product.a_column = 1;
  product.b = w, product.b_row = s.inputs, product.b_column = 1;
  product.c = dx, product.c_row = s.inputs;
  multiply(product);
}

// dw = dy^T x. Overwrites dw.
template <typename T>
void linear_backward_weight(const FewRowsShape& s, const T* dy, const T* x, T* dw) {
  if (s.rows <= kFewRows) return linear_backward_weight<T>(s, dy, x, false, nullptr, dw);
  Gemm<T> product;
  product.M = s.outputs, product.N = s.inputs, product.K = s.rows;
  product.a = dy, product.a_row = 1, product.a_column = s.outputs;
  product.b = x, product.b_row = s.inputs, product.b_column = 1;
  product.c = dw, product.c_row = s.inputs;
  multiply(product);
}

// db = the sum of the rows of dy. Overwrites db.
template <typename T>
void linear_backward_bias(const FewRowsShape& s, const T* dy, T* db) {
  parallel_for(s.outputs, s.rows * kWorkPerMove, [&](std::int64_t begin, std::int64_t end) {
    isa_table<T>().bias.backward(s.rows, s.outputs, begin, end, dy, db);
  });
}

}  // namespace pynn::threaded
