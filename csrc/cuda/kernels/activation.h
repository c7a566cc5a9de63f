// relu, leaky_relu, sigmoid and tanh: as operators, and as what other kernels end with.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pynn::cuda {

struct Activation {
  enum class Kind { none, relu, leaky_relu, sigmoid, tanh };
  Kind kind = Kind::none;
  double slope = 0;  // of leaky_relu
};

// y = activation(x); in place.
template <typename T>
void activation_forward(const Activation& activation, std::int64_t size, const T* x, T* y,
                        cudaStream_t stream);
// dx (+)= dy activation'. `at` (size,) is y; of leaky_relu it is x, or y where the slope is not
// negative. In place (dx == dy).
template <typename T>
void activation_backward(const Activation& activation, std::int64_t size, const T* dy, const T* at,
                         bool add, T* dx, cudaStream_t stream);

}  // namespace pynn::cuda
