// How a matrix that is broadcast is laid out for a register tile.
#pragma once

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// to (depth, width) = from, whose first `valid` lanes exist; the others become 0. Where width is no
// multiple of a vector's, up to a vector beyond the end of `to` is written.
template <typename T>
void pack(std::int64_t width, std::int64_t valid, std::int64_t depth, const T* from,
          std::int64_t lane_stride, std::int64_t depth_stride, T* to) {
  constexpr int lanes = kLanes<T>;
  if (lane_stride == 1) {
    for (std::int64_t k = 0; k < depth; ++k) {
      copy_run(valid, from + k * depth_stride, to + k * width);
      for (std::int64_t j = valid; j < width; ++j) to[k * width + j] = T(0);
    }
    return;
  }
  std::int64_t done = 0;
  if (depth_stride == 1 && width > 1) {
    done = depth / lanes * lanes;
    // The last lanes first: what they write beyond their row is then overwritten.
    for (std::int64_t j = (width - 1) / lanes * lanes; j >= 0; j -= lanes) {
      for (std::int64_t k = 0; k < done; k += lanes) {
        Vector<T> square[lanes];
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i)
          square[i] = j + i < valid ? load(from + (j + i) * lane_stride + k) : Vector<T>{};
        transpose<T>(square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store<T>(to + (k + i) * width + j, square[i]);
      }
    }
  }
  for (std::int64_t k = done; k < depth; ++k) {
    for (std::int64_t j = 0; j < valid; ++j)
      to[k * width + j] = from[j * lane_stride + k * depth_stride];
    for (std::int64_t j = valid; j < width; ++j) to[k * width + j] = T(0);
  }
}

}  // namespace
}  // namespace pynn::PYNN_ISA
