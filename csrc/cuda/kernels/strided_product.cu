#include "cuda/kernels/strided_product.h"

namespace pynn::cuda {
namespace {

template <typename T, Along along_a, Along along_b>
struct Problem {
  struct Part {
    StridedFactor<T, along_a> a;
    StridedFactor<T, along_b> b;
    int begin, end;
    ProductResult<T> result;
    T* row_sums;
  };
  int M, N;
  Part first;
  std::int64_t a_batch, b_batch, y_batch;

  __device__ __forceinline__ Part part(int z) const {
    Part part = first;
    part.a.from += z * a_batch;
    part.b.from += z * b_batch;
    part.result.y += z * y_batch;
    return part;
  }
};

template <typename T, Along along_a, Along along_b>
void run(const StridedProduct<T>& s, Precision precision, cudaStream_t stream) {
  product<T>(
      Problem<T, along_a, along_b>{
          s.M,
          s.N,
          {{s.a, s.a_row, s.a_column}, {s.b, s.b_column, s.b_row}, 0, s.K, s.result, s.row_sums},
          s.a_batch,
          s.b_batch,
          s.y_batch},
      s.batch, precision, stream);
}

}  // namespace

template <typename T>
void strided_product(const StridedProduct<T>& s, Precision precision, cudaStream_t stream) {
  if (s.b_row == 1 && s.b_column != 1)
    run<T, Along::terms, Along::terms>(s, precision, stream);
  else if (s.a_row == 1 && s.a_column != 1)
    run<T, Along::lines, Along::lines>(s, precision, stream);
  else
    run<T, Along::terms, Along::lines>(s, precision, stream);
}

template void strided_product(const StridedProduct<float>&, Precision, cudaStream_t);
template void strided_product(const StridedProduct<double>&, Precision, cudaStream_t);

}  // namespace pynn::cuda
