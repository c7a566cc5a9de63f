#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/activation.h"
#include "kernels/window.h"

namespace pynn::cuda {

// x, dx (planes, H, W, N)   y, dy, codes (planes, OH, OW, N). A code is the place of a maximum in
// its window, kh * KW + kw. Code: std::uint8_t where a window has at most 256 pixels, or
// std::int32_t. The first of equal values wins, and the first NaN over everything; padding never
// does.
template <typename T, typename Code>
void max_pool2d_forward(const Window& w, std::int64_t planes, std::int64_t N, const T* x, T* y,
                        Code* codes, cudaStream_t stream);  // codes may be null

// dx (+)= the gradients of the windows that chose a pixel, each times activation'(at) where the
// window's value came out of an activation: `at` (planes, OH, OW, N) as activation_backward has it,
// or null. So conv2d_forward_pooled's result is y and `at` at once.
template <typename T, typename Code>
void max_pool2d_backward(const Window& w, std::int64_t planes, std::int64_t N, const T* dy,
                         const Code* codes, const Activation& activation, const T* at, bool add,
                         T* dx, cudaStream_t stream);

// argmax (planes, OH, OW, N) = h * W + w of the pixels that the codes mean.
template <typename Code>
void max_pool2d_indices(const Window& w, std::int64_t planes, std::int64_t N, const Code* codes,
                        std::int64_t* argmax, cudaStream_t stream);

}  // namespace pynn::cuda
