#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/window.h"

namespace pynn::cuda {

// x, dx (planes, H, W, N)   y, dy (planes, OH, OW, N). A window's sum is divided by its pixels,
// counting those of the padding (but none beyond it) if count_include_pad.
template <typename T>
void avg_pool2d_forward(const Window& w, bool count_include_pad, std::int64_t planes,
                        std::int64_t N, const T* x, T* y, cudaStream_t stream);
template <typename T>
void avg_pool2d_backward(const Window& w, bool count_include_pad, std::int64_t planes,
                         std::int64_t N, const T* dy, bool add, T* dx, cudaStream_t stream);

// The mean of each plane: x, dx (planes, pixels, N), y, dy (planes, N).
template <typename T>
void global_avg_pool2d_forward(std::int64_t planes, std::int64_t pixels, std::int64_t N, const T* x,
                               T* y, cudaStream_t stream);
template <typename T>
void global_avg_pool2d_backward(std::int64_t planes, std::int64_t pixels, std::int64_t N,
                                const T* dy, bool add, T* dx, cudaStream_t stream);

}  // namespace pynn::cuda
