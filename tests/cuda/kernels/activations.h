// Activations in double, for what tests expect.
#pragma once

#include <cmath>

#include "cuda/kernels/activation.h"
#include "runtime/errors.h"

namespace pynn::test {

inline const cuda::Activation kActivations[] = {{cuda::Activation::Kind::none},
                                                {cuda::Activation::Kind::relu},
                                                {cuda::Activation::Kind::leaky_relu, 0.1},
                                                {cuda::Activation::Kind::sigmoid},
                                                {cuda::Activation::Kind::tanh}};

inline double activated(const cuda::Activation& activation, double x) {
  switch (activation.kind) {
    case cuda::Activation::Kind::relu:
      return x < 0 ? 0 : x;
    case cuda::Activation::Kind::leaky_relu:
      return x < 0 ? x * activation.slope : x;
    case cuda::Activation::Kind::sigmoid:
      return 1 / (1 + std::exp(-x));
    case cuda::Activation::Kind::tanh:
      return std::tanh(x);
    default:
      return x;
  }
}

inline double activated_backward(const cuda::Activation& activation, double dy, double at) {
  switch (activation.kind) {
    case cuda::Activation::Kind::relu:
      return at <= 0 ? 0 : dy;
    case cuda::Activation::Kind::leaky_relu:
      return at > 0 ? dy : dy * activation.slope;
    case cuda::Activation::Kind::sigmoid:
      return dy * at * (1 - at);
    case cuda::Activation::Kind::tanh:
      return dy * (1 - at * at);
    default:
      return dy;
  }
}

}  // namespace pynn::test
