// The dot tile: weight gradients of convolutions, summed over samples, which lie in the lanes, and
// pixels.
#pragma once

#include <cstdint>

#include "simd/outer_product.h"

namespace pynn {

// sums(i, j) = sum over p of A(i, p) B(j, p), or is increased by it, lane by lane, where an element
// of A and B is 16 neighbouring lanes:
//   A(i, p) = a[i * a_row + 16 p] and the 15 after it
//   B(j, p) = b[b_columns[j] + b_offsets[p]] and the 15 after it
// and an element of sums (rows, columns) is one register.
template <typename T>
struct DotProduct {
  std::int64_t rows, columns, depth;
  const T* a;
  std::int64_t a_row;
  const T* b;
  const std::int32_t* b_columns;
  const std::int32_t* b_offsets;
  bool add;
  T* sums;
};

template <typename T>
struct DotProductKernels {
  void (*run)(const DotProduct<T>& product);
  // to[i] = the sum of the lanes of sums[i], or is increased by it, in the order of a fixed tree.
  void (*sum_lanes)(std::int64_t count, const T* sums, bool accumulate, T* to);
  // to[i] = the sum of the elements of a at i * row + block * stride, (columns, 16), for all
  // blocks, or is increased by it.
  void (*sum_rows)(std::int64_t rows, std::int64_t row, std::int64_t blocks, std::int64_t stride,
                   std::int64_t columns, const T* a, bool add, T* to);
  std::int64_t rows, columns;  // of the largest tile
  std::int64_t lanes;          // of a register
};

}  // namespace pynn
