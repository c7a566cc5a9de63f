#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/precision.h"
#include "kernels/conv2d.h"

namespace pynn::cuda {

// x, dx (C, H, W, N)   w (O, C/groups, KH, KW)   b (O,)   y, dy (O, OH, OW, N). The shape is the
// processor's (kernels/conv2d.h).

// y = activation(conv(x, w) + b); b may be null.
template <typename T>
void conv2d_forward(const Conv2dShape& s, Precision precision, const T* x, const T* w, const T* b,
                    const Activation& activation, T* y, cudaStream_t stream);

// The same, and of each 2 x 2 tile of positions the maximum alone: y, codes (O, OH/2, OW/2, N). A
// code is which position of the tile won, 2 * row + column, as max_pool2d has it.
template <typename T>
void conv2d_forward_pooled(const Conv2dShape& s, Precision precision, const T* x, const T* w,
                           const T* b, const Activation& activation, T* y, std::uint8_t* codes,
                           cudaStream_t stream);

// dx (+)= the adjoint of the convolution at dy, times activation'(at): the activation is the one
// whose result x is, `at` as activation_backward has it, null for none.
template <typename T>
void conv2d_backward_input(const Conv2dShape& s, Precision precision, const T* dy, const T* w,
                           const Activation& activation, const T* at, bool add, T* dx,
                           cudaStream_t stream);

// The gradients of w and b in two passes. First, the sums of `shards` runs of positions and samples
// apart: dw (shards, O, C/groups, KH, KW), db (shards, O), which may be null; overwritten. Then
// `combine` (optimizer.h), or the update that takes shards. With one shard the first pass is all.
std::int64_t conv2d_weight_shards(const Conv2dShape& s);
template <typename T>
void conv2d_backward_weight(const Conv2dShape& s, Precision precision, const T* dy, const T* x,
                            T* dw, T* db, cudaStream_t stream);

// Makes every thread of a convolution without tensor cores have this many channels (1, 4, 8 or 16)
// and positions (1 or 4; not 16 and 1), whatever the shape; 0 and 0: as the shape asks. For tests:
// it changes no bit.
void conv2d_set_tile(int channels, int places);

}  // namespace pynn::cuda
