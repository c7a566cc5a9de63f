// Functions of one number, for float and double alike, and activations made of them.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/activation.h"

namespace pynn::cuda {

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float natural_log(float x) { return logf(x); }
__device__ __forceinline__ double natural_log(double x) { return log(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }
__device__ __forceinline__ float absolute(float x) { return fabsf(x); }
__device__ __forceinline__ double absolute(double x) { return fabs(x); }

// A product that no later addition is fused with: nvcc would, and the host does not.
__device__ __forceinline__ float rounded_product(float x, float y) { return __fmul_rn(x, y); }
__device__ __forceinline__ double rounded_product(double x, double y) { return __dmul_rn(x, y); }

template <typename T>
__device__ __forceinline__ bool is_finite(T x) {
  return x - x == T(0);
}

// An activation as kernels take it.
template <typename T>
struct ActivationOf {
  Activation::Kind kind = Activation::Kind::none;
  T slope = 0;

  ActivationOf() = default;
  explicit ActivationOf(const Activation& activation)
      : kind(activation.kind), slope(static_cast<T>(activation.slope)) {}

  __device__ __forceinline__ T operator()(T x) const {
    switch (kind) {
      case Activation::Kind::relu:
        return x < T(0) ? T(0) : x;
      case Activation::Kind::leaky_relu:
        return x < T(0) ? x * slope : x;
      case Activation::Kind::sigmoid: {
        const T small = exponential(-absolute(x));  // never more than 1
        return (x < T(0) ? small : T(1)) / (T(1) + small);
      }
      case Activation::Kind::tanh:
        return hyperbolic_tangent(x);
      default:
        return x;
    }
  }

  // What becomes of dy on its way back.
  __device__ __forceinline__ T backward(T dy, T at) const {
    switch (kind) {
      case Activation::Kind::relu:
        return at <= T(0) ? T(0) : dy;
      case Activation::Kind::leaky_relu:
        return at > T(0) ? dy : dy * slope;
      case Activation::Kind::sigmoid:
        return dy * at * (T(1) - at);
      case Activation::Kind::tanh:
        return dy * (T(1) - at * at);
      default:
        return dy;
    }
  }
};

}  // namespace pynn::cuda
