// The product of two matrices, whose elements lie at any strides.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/precision.h"

namespace pynn::cuda {

// y (M, N) = a (M, K) b (K, N), `batch` times. Element (i, j) of a is at i * a_row + j * a_column,
// of the next product a_batch further on; likewise b and y.
struct GemmShape {
  std::int64_t M = 0, N = 0, K = 0, batch = 1;
  std::int64_t a_row = 0, a_column = 1, a_batch = 0;
  std::int64_t b_row = 0, b_column = 1, b_batch = 0;
  std::int64_t y_row = 0, y_column = 1, y_batch = 0;
};

template <typename T>
void gemm(const GemmShape& s, Precision precision, const T* a, const T* b, bool add, T* y,
          cudaStream_t stream);

}  // namespace pynn::cuda
