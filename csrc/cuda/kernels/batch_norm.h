#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/step_state.h"

namespace pynn::cuda {

// x, y, dy, dx (C, inner), inner = H W N; mean, var, weight, bias, dweight, dbias (C,). weight and
// bias may be null: ones and zeros.
struct BatchNormShape {
  std::int64_t C = 0, inner = 0;
  double eps = 1e-5;
};

// y = activation((x - mean) / sqrt(var + eps) * weight + bias), with the mean and the (biased)
// variance of the batch, which it writes. inner > 0, or nothing is done.
template <typename T>
void batch_norm_forward_training(const BatchNormShape& s, const T* x, const T* weight,
                                 const T* bias, const Activation& activation, T* mean, T* var, T* y,
                                 cudaStream_t stream);
// The same with the mean and variance given.
template <typename T>
void batch_norm_forward(const BatchNormShape& s, const T* x, const T* mean, const T* var,
                        const T* weight, const T* bias, const Activation& activation, T* y,
                        cudaStream_t stream);
// dx, dweight and dbias may be null. In training mean and var depend on x. dx is added to where
// add_dx says so, dweight and dbias where add_parameters does.
template <typename T>
void batch_norm_backward(const BatchNormShape& s, const T* dy, const T* x, const T* mean,
                         const T* var, const T* weight, bool training, bool add_dx, T* dx,
                         bool add_parameters, T* dweight, T* dbias, cudaStream_t stream);
// running += momentum * (batch - running), the variance unbiased (times count / (count - 1)), and
// batches += 1; nothing where state is given and has failed.
template <typename T>
void batch_norm_update_running(const BatchNormShape& s, const T* mean, const T* var,
                               double momentum, T* running_mean, T* running_var,
                               std::int64_t* batches, const StepState* state, cudaStream_t stream);

}  // namespace pynn::cuda
