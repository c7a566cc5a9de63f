#include "cuda/kernels/linear.h"

#include "cuda/kernels/bias.h"
#include "cuda/kernels/strided_product.h"

namespace pynn::cuda {
namespace {

void check_sizes(const LinearShape& s) {
  narrow(s.in, s.N);
  narrow(s.in, s.out);
  narrow(s.out, s.N);
}

}  // namespace

template <typename T>
void linear_forward(const LinearShape& s, Precision precision, const T* x, const T* w, const T* b,
                    const Activation& activation, T* y, cudaStream_t stream) {
  check_sizes(s);
  StridedProduct<T> product;  // w (out, in) by x (in, N)
  product.M = narrow(s.out), product.N = narrow(s.N), product.K = narrow(s.in);
  product.a = w, product.a_row = product.K;
  product.b = x, product.b_row = product.N;
  product.result = ProductResult<T>(y, s.N);
  product.result.bias = b;
  product.result.activation = ActivationOf<T>(activation);
  product.result.find_quads();
  strided_product(product, precision, stream);
}

template <typename T>
void linear_backward_input(const LinearShape& s, Precision precision, const T* dy, const T* w,
                           const Activation& activation, const T* at, bool add, T* dx,
                           cudaStream_t stream) {
  check_sizes(s);
  StridedProduct<T> product;  // w^T (in, out) by dy (out, N)
  product.M = narrow(s.in), product.N = narrow(s.N), product.K = narrow(s.out);
  product.a = w, product.a_row = 1, product.a_column = product.M;
  product.b = dy, product.b_row = product.N;
  product.result = ProductResult<T>(dx, s.N);
  product.result.at = activation.kind == Activation::Kind::none ? nullptr : at;
  product.result.before = ActivationOf<T>(activation);
  product.result.add = add;
  product.result.find_quads();
  strided_product(product, precision, stream);
}

template <typename T>
void linear_backward_weight(const LinearShape& s, Precision precision, const T* dy, const T* x,
                            bool add, T* dw, T* db, cudaStream_t stream) {
  check_sizes(s);
  // The sums come with the product, but not of rounded factors, and not where it has no column.
  const bool sums_here = db && precision == Precision::fp32 && s.in > 0;
  StridedProduct<T> product;  // dy (out, N) by x^T (N, in)
  product.M = narrow(s.out), product.N = narrow(s.in), product.K = narrow(s.N);
  product.a = dy, product.a_row = product.K;
  product.b = x, product.b_row = 1, product.b_column = product.K;
  product.result = ProductResult<T>(dw, s.in);
  product.result.add = add;
  product.result.find_quads();
  product.row_sums = sums_here ? db : nullptr;
  strided_product(product, precision, stream);
  if (db && !sums_here) bias_backward(s.out, s.N, dy, add, db, stream);
}

#define PYNN_INSTANTIATE(T)                                                                     \
  template void linear_forward(const LinearShape&, Precision, const T*, const T*, const T*,     \
                               const Activation&, T*, cudaStream_t);                            \
  template void linear_backward_input(const LinearShape&, Precision, const T*, const T*,        \
                                      const Activation&, const T*, bool, T*, cudaStream_t);     \
  template void linear_backward_weight(const LinearShape&, Precision, const T*, const T*, bool, \
                                       T*, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
