// How blocks of a loss's kernel add up to one number.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/loss.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {

struct LossWorkspace {
  unsigned finished;  // blocks, while a kernel runs
  double normaliser;  // where the values decide it
  double partial[1];  // of each block
};

// All threads of a block of kLossThreads call it, with what this block adds to the loss. The last
// block adds up what all have, in their order, times `scale`. `shared` (33,) is in shared memory.
constexpr int kLossThreads = 256;
__device__ __forceinline__ void finish_loss(double sum_of_thread, double scale,
                                            const LossResult& result, double* shared) {
  auto* const workspace = static_cast<LossWorkspace*>(result.workspace);
  volatile double* const partial = workspace->partial;
  const double sum = block_sum(sum_of_thread, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  if (!last_block(&workspace->finished, reinterpret_cast<unsigned*>(shared + 32))) return;
  double total = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kLossThreads) total += partial[i];
  total = block_sum(total, shared);
  if (threadIdx.x != 0) return;
  // Where nothing counts the loss is 0, whatever the logits.
  const double loss = scale == 0 ? 0 : total * scale;
  if (result.losses) result.losses[result.state ? result.state->index : 0] = loss;
  if (result.state && !is_finite(loss)) result.state->failed = 1;
}

}  // namespace pynn::cuda
