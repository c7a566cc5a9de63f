// Dense layers of a few samples, which are rows of arrays. The weights, which are most of what is
// read, are read once and as they lie. Where it is the outputs that are few, weights and samples
// change places.
#pragma once

#include <cstdint>

#include "simd/outer_product.h"

namespace pynn {

// x, dx (rows, inputs)   w, dw (outputs, inputs)   b (outputs,)   y, dy (rows, outputs).
struct FewRowsShape {
  std::int64_t rows, inputs, outputs;
};

// An element has the same bits whatever is computed beside it. Those of y are summed in as many
// parts as a vector has lanes, those of the gradients in one chain of fused multiply-adds.
template <typename T>
struct FewRowsKernels {
  // Columns begin ... end of y = x w^T + b, or of its relu; b may be null. Walked backwards, what
  // the call before read last, and is still in the cache, is read first.
  void (*forward)(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* x,
                  const T* w, const T* b, bool relu, bool backwards, T* y);
  // Columns begin ... end of dx = dy w, which is 0 where mask (rows, inputs) is <= 0; null: no
  // mask.
  void (*backward_input)(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                         const T* w, const T* mask, T* dx);
  // Rows begin ... end of dw = dy^T x, or dw += dy^T x; with a step, dw are the weights, which take
  // it.
  void (*backward_weight)(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                          const T* x, bool add, const GradientStep<T>* step, T* dw);
};

}  // namespace pynn
