#include "cuda/kernels/step_state.h"

#include "cuda/kernels/launch.h"

namespace pynn::cuda {
namespace {

__global__ void advance_kernel(StepState* state) {
  begin_kernel();
  if (state->failed) return;
  ++state->step;
  ++state->index;
}

}  // namespace

void advance(StepState* state, cudaStream_t stream) {
  launch(stream, 1, 1, 0, advance_kernel, state);
}

}  // namespace pynn::cuda
