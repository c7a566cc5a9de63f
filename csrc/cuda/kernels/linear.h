#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/precision.h"

namespace pynn::cuda {

// x, dx (in, N)   w, dw (out, in)   b, db (out,)   y, dy (out, N). Where x has positions between N
// and in, (N, T, in), arrange it as (in, T, N) with `permute` and count T N samples.
struct LinearShape {
  std::int64_t N = 0, in = 0, out = 0;
};

// y = activation(w x + b); b may be null.
template <typename T>
void linear_forward(const LinearShape& s, Precision precision, const T* x, const T* w, const T* b,
                    const Activation& activation, T* y, cudaStream_t stream);

// dx (+)= (w^T dy) activation'(at): the activation is the one whose result x is, `at` as
// activation_backward has it (in, N), null for none.
template <typename T>
void linear_backward_input(const LinearShape& s, Precision precision, const T* dy, const T* w,
                           const Activation& activation, const T* at, bool add, T* dx,
                           cudaStream_t stream);

// dw (+)= dy x^T and db (+)= the sums of dy over the samples; db may be null.
template <typename T>
void linear_backward_weight(const LinearShape& s, Precision precision, const T* dy, const T* x,
                            bool add, T* dw, T* db, cudaStream_t stream);

}  // namespace pynn::cuda
