#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/step_state.h"

namespace pynn::cuda {

// x, y (features, N). y (+)= 0 where the element's random word, that of the processor's dropout, is
// below p 2^32, else x / (1 - p). Backward is the same function of dy. In place.
template <typename T>
void dropout(std::int64_t features, std::int64_t N, double p, std::uint32_t node,
             const StepState* state, const T* x, bool add, T* y, cudaStream_t stream);

}  // namespace pynn::cuda
