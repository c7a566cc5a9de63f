#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/loss.h"

namespace pynn::cuda {

// logits, gradient, probabilities (C, positions); labels, position_losses (positions,); weight
// (C,). The positions are the N samples of logits (N, C), or D N of logits (N, C, D). One kernel
// does softmax, loss and gradient.
template <typename T, typename Label>  // Label: std::int64_t or std::int32_t
struct CrossEntropy {
  std::int64_t positions = 0, C = 0;
  const T* logits = nullptr;
  const Label* labels = nullptr;     // or null, and then
  const T* probabilities = nullptr;  // these are the target
  const T* weight = nullptr;         // may be null: ones
  bool ignores = false;
  std::int64_t ignored_label = 0;
  double smoothing = 0;
  bool mean = true;              // of the positions whose label is not ignored, by weight; else sum
  T* gradient = nullptr;         // of the reduced loss; may be null, and may be the logits
  T* position_losses = nullptr;  // unreduced, may be null
};

// A label outside 0 ... C - 1 that is not ignored makes the loss NaN.
template <typename T, typename Label>
void cross_entropy(const CrossEntropy<T, Label>& task, const LossResult& result,
                   cudaStream_t stream);

}  // namespace pynn::cuda
