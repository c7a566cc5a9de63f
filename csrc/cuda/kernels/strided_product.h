// Products of factors that lie in memory with strides: gemm and the three products of a dense layer
// are this one, compiled once.
#pragma once

#include "cuda/kernels/product.h"

namespace pynn::cuda {

template <typename T>
struct StridedProduct {
  int M = 0, N = 0, K = 0;
  const T* a = nullptr;  // (M, K)
  int a_row = 0, a_column = 1;
  const T* b = nullptr;  // (K, N)
  int b_row = 0, b_column = 1;
  ProductResult<T> result;
  T* row_sums = nullptr;  // (M,): of a; null: not wanted
  // From one product to the next:
  std::int64_t batch = 1, a_batch = 0, b_batch = 0, y_batch = 0;
};

template <typename T>
void strided_product(const StridedProduct<T>& product, Precision precision, cudaStream_t stream);

}  // namespace pynn::cuda
