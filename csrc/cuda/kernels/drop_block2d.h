#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/step_state.h"
#include "kernels/drop_block2d.h"

namespace pynn::cuda {

// x, y (C, H, W, N). The shape is the processor's, and so are the blocks that are dropped. The mask
// of a step is kept in `workspace` (drop_block2d_workspace bytes) from drop_block2d_mask on;
// drop_block2d then is y (+)= 0 in the dropped blocks, else x (C H W / elements kept), forward and
// backward. In place.
std::int64_t drop_block2d_workspace(const DropBlock2dShape& s, std::int64_t N);
void drop_block2d_mask(const DropBlock2dShape& s, std::int64_t N, std::uint32_t node,
                       const StepState* state, void* workspace, cudaStream_t stream);
template <typename T>
void drop_block2d(const DropBlock2dShape& s, std::int64_t N, const void* workspace, const T* x,
                  bool add, T* y, cudaStream_t stream);

}  // namespace pynn::cuda
