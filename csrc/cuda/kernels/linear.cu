#include "cuda/kernels/linear.h"

#include "cuda/kernels/bias.h"
#include "cuda/kernels/product.h"

namespace pynn::cuda {
namespace {

template <typename T, Along along_a, Along along_b>
struct LinearProblem {
  struct Part {
    StridedFactor<T, along_a> a;
    StridedFactor<T, along_b> b;
    int begin, end;
    ProductResult<T> result;
    T* row_sums;
  };
  int M, N;
  Part whole;
  __device__ __forceinline__ Part part(int) const { return whole; }
};

}  // namespace

template <typename T>
void linear_forward(const LinearShape& s, Precision precision, const T* x, const T* w, const T* b,
                    const Activation& activation, T* y, cudaStream_t stream) {
  narrow(s.in, s.N), narrow(s.in, s.out);
  narrow(s.out, s.N);
  ProductResult<T> result(y, s.N);
  result.bias = b;
  result.activation = ActivationOf<T>(activation);
  result.find_quads();
  using Problem = LinearProblem<T, Along::terms, Along::lines>;
  product<T>(Problem{narrow(s.out),
                     narrow(s.N),
                     {{w, narrow(s.in), 1}, {x, 1, narrow(s.N)}, 0, narrow(s.in), result, nullptr}},
             1, precision, stream);
}

template <typename T>
void linear_backward_input(const LinearShape& s, Precision precision, const T* dy, const T* w,
                           const Activation& activation, const T* at, bool add, T* dx,
                           cudaStream_t stream) {
  narrow(s.in, s.N), narrow(s.in, s.out);
  narrow(s.out, s.N);
  ProductResult<T> result(dx, s.N);
  result.at = activation.kind == Activation::Kind::none ? nullptr : at;
  result.before = ActivationOf<T>(activation);
  result.add = add;
  result.find_quads();
  using Problem = LinearProblem<T, Along::lines, Along::lines>;
  product<T>(
      Problem{narrow(s.in),
              narrow(s.N),
              {{w, 1, narrow(s.in)}, {dy, 1, narrow(s.N)}, 0, narrow(s.out), result, nullptr}},
      1, precision, stream);
}

template <typename T>
void linear_backward_weight(const LinearShape& s, Precision precision, const T* dy, const T* x,
                            bool add, T* dw, T* db, cudaStream_t stream) {
  narrow(s.in, s.N), narrow(s.in, s.out);
  narrow(s.out, s.N);
  const bool sums_here = db && precision == Precision::fp32;
  ProductResult<T> result(dw, s.in);
  result.add = add;
  result.find_quads();
  using Problem = LinearProblem<T, Along::terms, Along::terms>;
  // With no column there is no block that could sum the rows.
  if (s.in > 0)
    product<T>(Problem{narrow(s.out),
                       narrow(s.in),
                       {{dy, narrow(s.N), 1},
                        {x, narrow(s.N), 1},
                        0,
                        narrow(s.N),
                        result,
                        sums_here ? db : nullptr}},
               1, precision, stream);
  if (db && (!sums_here || s.in == 0)) bias_backward(s.out, s.N, dy, add, db, stream);
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
