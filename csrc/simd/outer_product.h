// The outer-product tile: all products of a plan except the weight gradients of convolutions.
#pragma once

#include <cstdint>

namespace pynn {

// Lanes of a column: a sample each, whatever the width of a register.
constexpr std::int64_t kBlockLanes = 16;

template <typename T>
struct GradientStep {
  T rate, decay;
};

// C (rows, columns) = start + A (rows, depth) B (depth, columns), where an element of B and C is 16
// neighbouring lanes:
//   A(i, k) = a[i * a_row + a_offsets[k]]
//   B(k, j) = b[b_offsets[k] + b_columns[j]] and the 15 after it
//   C(i, j) = c[i * c_row + c_columns[j]] and the 15 after it.
// An element is one chain of fused multiply-adds over ascending k, whichever tile computes it.
template <typename T>
struct OuterProduct {
  std::int64_t rows, columns, depth;
  const T* a;
  std::int64_t a_row;
  const std::int32_t* a_offsets;
  const T* b;
  const std::int32_t* b_offsets;
  const std::int64_t* b_columns;
  T* c;
  std::int64_t c_row;
  const std::int64_t* c_columns;
  const T* bias = nullptr;         // (rows,): start; absent: 0
  bool accumulate = false;         // start is what C holds
  bool relu = false;               // C = max(C, 0); NaN stays
  const T* mask = nullptr;         // addressed as C: C = 0 where it is <= 0
  std::int64_t depth_block = 256;  // of k that are done for all of C before the next
  bool even = false;               // a_offsets and b_offsets advance by a step each
  // Where B does not stay in the first-level cache, A may lie in panels of so many rows:
  //   A(i, k) = a[i / panel_rows * a_panel + i % panel_rows + a_offsets[k]].
  std::int64_t panel_rows = 1, a_panel = 0;  // 1: it does not
  bool fetch_b = false;  // into the first-level cache, before it is needed; panels always do
  std::int64_t last_lanes = kBlockLanes;  // of the last column, that C has; B has all 16
  // Instead of all that, C -= rate * (A B + decay * C): a step of plain gradient descent. All of
  // the depth must be one block.
  const GradientStep<T>* step = nullptr;
};

template <typename T>
struct OuterProductKernels {
  void (*run)(const OuterProduct<T>& product);
  // to (depth, width): to[k * width + r] = from[r * row + k * step], or 0 from row `rows` on; up to
  // a vector behind it may be written.
  void (*pack)(std::int64_t width, std::int64_t rows, std::int64_t depth, const T* from,
               std::int64_t row, std::int64_t step, T* to);
  std::int64_t rows;     // of the largest tile, and the most of a panel
  std::int64_t columns;  // of a tile that has many rows
};

}  // namespace pynn
