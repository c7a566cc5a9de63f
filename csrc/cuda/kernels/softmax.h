#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/softmax.h"

namespace pynn::cuda {

// x, y, dy, dx (outer, axis, inner), as on the processor: of an array (N, A, B) on the device axis
// 1 is (1, A, B N), axis 2 is (A, B, N), and axis 0 is (A B, N, 1).
template <typename T>
void softmax_forward(const SoftmaxShape& s, const T* x, T* y, cudaStream_t stream);
template <typename T>
void softmax_backward(const SoftmaxShape& s, const T* dy, const T* y, bool add, T* dx,
                      cudaStream_t stream);
template <typename T>
void log_softmax_forward(const SoftmaxShape& s, const T* x, T* y, cudaStream_t stream);
template <typename T>
void log_softmax_backward(const SoftmaxShape& s, const T* dy, const T* y, bool add, T* dx,
                          cudaStream_t stream);

}  // namespace pynn::cuda
