#pragma once

#include "plan/weighted_layer.h"

namespace pynn {

struct LinearNode {
  int x = -1, w = -1, b = -1, y = -1;
  bool relu = false;  // y = max(x w^T + b, 0)
};

// Whether threads do better to share the samples than the outputs: the weights are small enough for
// each of them to read them all.
inline bool shares_samples(const Shape& w, std::int64_t element_bytes) {
  constexpr std::int64_t kWeightBytes = 256 * 1024;
  return element_count(w) * element_bytes <= kWeightBytes;
}

// Whether x is read as the caller gave it: the weights had better be turned into columns than x
// into blocks of samples.
inline bool reads_rows(const Value& x, const Shape& w, std::int64_t element_bytes) {
  constexpr std::int64_t kOutputs = 64;
  return x.rows >= 0 && w[0] <= kOutputs && shares_samples(w, element_bytes);
}

// Whether threads share the outputs of such a layer after all: so each has the same weights forward
// and in their update, and they need not come from another's cache.
inline bool shares_outputs(const Value& x, const Value& w, std::int64_t element_bytes) {
  return w.needed && reads_rows(x, w.shape, element_bytes) && w.shape[0] > kBlockLanes;
}

template <typename T>
std::unique_ptr<Stage<T>> make_linear_stage(Builder<T>& builder, const LinearNode& node,
                                            const LayerGradients& gradients);

}  // namespace pynn
