// add, mul and their backward over broadcast arrays; sums; products of matrices with leading axes.
// The walks are the processor's (shapes/broadcast.h), over shapes as they are on the device: an
// activation (N, C, H, W) is (C, H, W, N), and a parameter (C, 1, 1) broadcasts as (C, 1, 1, 1).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/broadcast.h"

namespace pynn::cuda {

// y = a + b, a * b.
template <typename T>
void add_forward(const BroadcastShape& s, const T* a, const T* b, T* y, cudaStream_t stream);
template <typename T>
void mul_forward(const BroadcastShape& s, const T* a, const T* b, T* y, cudaStream_t stream);

// da (+)= the sums of dy over the summed axes; of dy b where b is not null. Strides may be any.
template <typename T>
void reduce(const ReductionShape& s, const T* dy, const T* b, bool add, T* da, cudaStream_t stream);

// y (+)= x.
template <typename T>
void accumulate(std::int64_t size, const T* x, T* y, cudaStream_t stream);

// y = x with its axes in another order: y dense, axes.size its shape, axes.a the strides of x.
template <typename T>
void permute(const Axes& axes, const T* x, T* y, cudaStream_t stream);

}  // namespace pynn::cuda
