#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/loss.h"

namespace pynn::cuda {

// The mean (or sum) of (prediction - target)^2, all (size,). gradient is that of the reduced loss,
// element_losses are unreduced; each may be null. loss_workspace(size) bytes.
template <typename T>
void mse_loss(std::int64_t size, bool mean, const T* prediction, const T* target, T* gradient,
              T* element_losses, const LossResult& result, cudaStream_t stream);

}  // namespace pynn::cuda
