#pragma once

#include <cstdint>

namespace pynn {

// logits, gradient, probabilities (N, C, inner); labels, loss (N, inner); weight (C,). A position p
// is one of the N * inner.
template <typename T>
struct CrossEntropyTask {
  static constexpr std::int64_t kLanes = 16;  // positions handled together
  static constexpr std::int64_t kMany = 64;   // or these: they hide each other's latency
  static constexpr std::int64_t kLong = 64;   // contiguous classes from here on are handled alone

  std::int64_t positions, C, inner;
  const T* logits;
  const std::int64_t* labels;  // each in 0 ... C - 1 or ignored; or null, and then
  const T* probabilities;      // these are the target
  const T* weight;             // may be null: ones
  std::int64_t ignored_label;  // -1: none
  T smoothing;
  T gradient_scale;
  T* loss;      // of each position
  T* gradient;  // gradient_scale * d loss / d logits; may be null
  std::int64_t workspace() const { return C * kMany; }
};

template <typename T>
struct CrossEntropyKernels {
  // Overwrites loss and gradient at the positions begin ... end. workspace (task.workspace(),).
  void (*run)(const CrossEntropyTask<T>& task, std::int64_t begin, std::int64_t end, T* workspace);
  // The same for positions that lie side by side, logits (C, kLanes), inner = 1, C < kLong, labels:
  // first is the position of the first lane; count lanes are there, of the others the gradient is
  // 0. Overwrites gradient (C, kLanes) and task.loss; does not use task.logits and task.gradient.
  void (*run_block)(const CrossEntropyTask<T>& task, std::int64_t first, int count, const T* logits,
                    T* gradient);
};

}  // namespace pynn
