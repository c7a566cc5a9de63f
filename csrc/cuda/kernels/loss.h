// Where a loss goes, for each of them alike.
#pragma once

#include <cstdint>

#include "cuda/kernels/step_state.h"

namespace pynn::cuda {

// The reduced loss is losses[state->index], or losses[0] where there is no state; a loss that is
// not finite sets state->failed. `workspace` holds loss_workspace(positions) bytes and must be
// zeroed once, when it is allocated; kernels leave it fit for the next.
struct LossResult {
  double* losses = nullptr;
  StepState* state = nullptr;
  void* workspace = nullptr;
};

std::int64_t loss_workspace(std::int64_t positions);

}  // namespace pynn::cuda
