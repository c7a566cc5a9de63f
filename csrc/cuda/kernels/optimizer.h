// All parameters of a model in one launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/step_state.h"
#include "kernels/adam.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"

namespace pynn::cuda {

// One parameter. Its gradient is the sum of `shards` arrays of `size` elements that begin
// shard_stride apart, in their order (conv2d_backward_weight); one shard is the plain case.
template <typename T>
struct ParameterUpdate {
  T* p = nullptr;
  const T* g = nullptr;
  T* state[2] = {nullptr, nullptr};  // as kernels/{sgd,adam,rmsprop}.h have them; may be null there
  std::int64_t size = 0;
  std::int32_t shards = 1, group = 0;
  std::int64_t shard_stride = 0;
};

// A run of the elements of one parameter that one block updates.
struct UpdatePiece {
  std::int32_t parameter;
  std::int32_t count;
  std::int64_t first;
};
constexpr std::int64_t kUpdatePiece = 1024;
// Fills pieces (where it is not null) and returns how many there are; on the host, of host arrays.
template <typename T>
std::int64_t update_pieces(const ParameterUpdate<T>* parameters, std::int64_t count,
                           UpdatePiece* pieces);

// The tables are in device memory. Limits are for gradients before the rule: clip_value limits
// each element (0: none); `norm` (null: none) is what gradient_norm wrote, with its clip_norm.
template <typename T>
struct UpdateTable {
  const ParameterUpdate<T>* parameters = nullptr;
  const UpdatePiece* pieces = nullptr;
  std::int64_t piece_count = 0;
  std::int32_t groups = 1;  // settings of a step: settings[state->index * groups + group]
  double clip_value = 0;
  double clip_norm = 0;
  const double* norm = nullptr;
  bool advances = false;  // the step ends here: step_state.h's `advance` as well, in one kernel
};

// p, and its state, after one step; nothing where the step has failed. Settings:
// pynn::SgdSettings<T>, AdamSettings<T> or RmspropSettings<T>. state may be null: index 0.
template <typename T, typename Settings>
void update(const UpdateTable<T>& table, const Settings* settings, StepState* state,
            cudaStream_t stream);

// *norm = the Euclidean norm of all gradients of the table, each element limited by clip_value
// first; state->failed is set where it is not finite. workspace: gradient_norm_workspace bytes,
// zeroed once.
std::int64_t gradient_norm_workspace(std::int64_t piece_count);
template <typename T>
void gradient_norm(const UpdateTable<T>& table, double* norm, StepState* state, void* workspace,
                   cudaStream_t stream);

// g (size,) (+)= the sum of `shards` arrays (size,), stride elements apart.
template <typename T>
void combine(std::int64_t shards, std::int64_t stride, std::int64_t size, const T* parts, bool add,
             T* g, cudaStream_t stream);

}  // namespace pynn::cuda
