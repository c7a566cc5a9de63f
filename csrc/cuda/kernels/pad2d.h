#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/pad2d.h"

namespace pynn::cuda {

// x, dx (planes, H, W, N); y, dy (planes, OH, OW, N).
template <typename T>
void pad2d_forward(const Pad2dShape& s, std::int64_t N, double value, const T* x, T* y,
                   cudaStream_t stream);
template <typename T>
void pad2d_backward(const Pad2dShape& s, std::int64_t N, const T* dy, bool add, T* dx,
                    cudaStream_t stream);

}  // namespace pynn::cuda
