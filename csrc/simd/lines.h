// How softmax and log_softmax walk over an array (outer, axis, inner): whole rows where inner is 1,
// else bundles of lines side by side, so that either way the innermost loop is over contiguous
// memory.
#pragma once

#include "kernels/softmax.h"
#include "simd/math.h"
#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kLong = 64;  // rows from here on fill the vectors by themselves
constexpr std::int64_t kBlock =
    2048;  // elements of shorter rows that go through each pass together
constexpr std::int64_t kBundle = 256;  // lines side by side

// Calls row(offset) for each long row, block(count, offset) for some short ones one after the other
// (at most kBlock elements), or bundle(count, offset) for lines side by side, which begin at
// offset, offset + 1, ...
template <typename Row, typename Block, typename Bundle>
inline void for_each_line(const SoftmaxShape& s, std::int64_t begin, std::int64_t end,
                          const Row& row, const Block& block, const Bundle& bundle) {
  if (begin >= end) return;
  if (s.inner == 1 && s.axis >= kLong) {
    for (std::int64_t line = begin; line < end; ++line) row(line * s.axis);
    return;
  }
  const std::int64_t step = s.inner == 1 ? kBlock / s.axis : kBundle;
  for (std::int64_t line = begin; line < end;) {
    std::int64_t count = step < end - line ? step : end - line;
    if (s.inner == 1) {
      block(count, line * s.axis);
    } else {
      const std::int64_t o = line / s.inner, i = line % s.inner;
      count = count < s.inner - i ? count : s.inner - i;
      bundle(count, o * s.axis * s.inner + i);
    }
    line += count;
  }
}

// y = x - the maximum of its row; x, y (count, axis).
template <typename T>
inline void subtract_row_maximum(std::int64_t count, std::int64_t axis, const T* x, T* y) {
  for (std::int64_t r = 0; r < count; ++r) {
    const T *x_r = x + r * axis, largest = maximum(axis, x_r);
    T* y_r = y + r * axis;
    for (std::int64_t j = 0; j < axis; ++j) y_r[j] = x_r[j] - largest;
  }
}

// y = x - the maximum of its line; x, y (axis, count), `stride` apart.
template <typename T>
inline void subtract_line_maximum(std::int64_t count, std::int64_t axis, std::int64_t stride,
                                  const T* x, T* y) {
  T largest[kBundle];
  for (std::int64_t i = 0; i < count; ++i) largest[i] = x[i];
  for (std::int64_t j = 1; j < axis; ++j) {
    const T* x_j = x + j * stride;
    for (std::int64_t i = 0; i < count; ++i) largest[i] = x_j[i] > largest[i] ? x_j[i] : largest[i];
  }
  for (std::int64_t j = 0; j < axis; ++j) {
    const T* x_j = x + j * stride;
    T* y_j = y + j * stride;
    for (std::int64_t i = 0; i < count; ++i) y_j[i] = x_j[i] - largest[i];
  }
}

}  // namespace
}  // namespace pynn::PYNN_ISA
