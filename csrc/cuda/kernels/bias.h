#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/activation.h"

namespace pynn::cuda {

// x, y, dy (features, N)   b, db (features,).
template <typename T>
void bias_forward(std::int64_t features, std::int64_t N, const T* x, const T* b, T* y,
                  cudaStream_t stream);
// y = activation(y + b); b may be null.
template <typename T>
void bias_activation(std::int64_t features, std::int64_t N, const T* b,
                     const Activation& activation, T* y, cudaStream_t stream);
// db (+)= the sums of the rows of dy.
template <typename T>
void bias_backward(std::int64_t features, std::int64_t N, const T* dy, bool add, T* db,
                   cudaStream_t stream);

}  // namespace pynn::cuda
