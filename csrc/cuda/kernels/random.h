// The random words of a step, those of the processor.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/step_state.h"
#include "runtime/philox.h"

namespace pynn::cuda {

// Of the features 4 * quad ... of one sample of the batch.
__device__ __forceinline__ PhiloxBlock random_words(const StepState& state, std::uint32_t node,
                                                    int sample, int quad) {
  return philox({state.seed, state.step, node},
                state.first_sample + static_cast<std::uint32_t>(sample),
                static_cast<std::uint32_t>(quad));
}

}  // namespace pynn::cuda
