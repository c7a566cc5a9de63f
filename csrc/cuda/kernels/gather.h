// Batches of a data set that lies on the device as it does on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/step_state.h"

namespace pynn::cuda {

// x (features, N) = (value * scale + shift) of the samples of `data` (samples, features) that the
// step takes: sample n is order[state->index * N + n], or that number itself where order is null.
// state may be null: index 0. Value: std::uint8_t, float or double.
template <typename Value, typename T>
void gather(std::int64_t features, std::int64_t N, const Value* data, const std::int64_t* order,
            const StepState* state, double scale, double shift, T* x, cudaStream_t stream);

// The same, and y (N,) = the labels (samples,) of those samples, in one kernel; labels may be null.
// features > 0.
template <typename Value, typename T>
void gather_batch(std::int64_t features, std::int64_t N, const Value* data,
                  const std::int64_t* labels, const std::int64_t* order, const StepState* state,
                  double scale, double shift, T* x, std::int64_t* y, cudaStream_t stream);

// The same for labels (samples, each): y (each, N). Label: std::uint8_t, std::int32_t,
// std::int64_t.
template <typename Label>
void gather_labels(std::int64_t each, std::int64_t N, const Label* data, const std::int64_t* order,
                   const StepState* state, std::int64_t* y, cudaStream_t stream);

}  // namespace pynn::cuda
