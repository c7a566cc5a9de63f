// What changes from step to step of a captured graph, in device memory: kernels read it there,
// since their arguments are fixed when the graph is captured.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pynn::cuda {

struct StepState {
  std::uint64_t seed;
  std::uint32_t step;          // of the random numbers
  std::uint32_t first_sample;  // of the batch, as random numbers count
  std::uint32_t index;         // of this step in its launch: which rows of `order`, settings, loss
  std::int32_t failed;         // a loss or a norm was not finite: whatever updates does nothing
  std::uint32_t finished;      // 0 between kernels
  std::uint32_t unused;        // 8 bytes together
};

// step and index go on by one, unless the step has failed.
void advance(StepState* state, cudaStream_t stream);

}  // namespace pynn::cuda
