// How a matrix that is broadcast is laid out for a register tile.
#pragma once

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// R lanes of C: to (depth, width) = from, whose first `valid` lanes exist; the others become 0. The
// depth is a multiple of a vector's lanes.
template <typename T, int R>
PYNN_INLINE void pack_lanes(std::int64_t width, std::int64_t valid, std::int64_t depth,
                            const T* from, std::int64_t lane_stride, T* to) {
  constexpr int lanes = kLanes<T>, columns = lanes / R;  // of a vector
  for (std::int64_t k = 0; k < depth; k += lanes, from += lanes, to += lanes * width) {
    Vector<T> rows[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) rows[i] = i < valid ? load(from + i * lane_stride) : Vector<T>{};
    transpose<T>(rows);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      store_part<T, 0, R>(to + i * columns * width, rows[i]);
      if constexpr (columns == 2) store_part<T, R, R>(to + (2 * i + 1) * width, rows[i]);
    }
  }
}

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
    if (width <= lanes / 2) {
      pack_lanes<T, lanes / 2>(width, valid, done, from, lane_stride, to);
    } else {
      constexpr std::int64_t kNear = 4 * lanes;  // of k, so that lines are written as a whole
      for (std::int64_t k = 0; k < done; k += kNear)
        // The last lanes first: what they write beyond their row is then overwritten.
        for (std::int64_t j = (width - 1) / lanes * lanes; j >= 0; j -= lanes)
          pack_lanes<T, lanes>(width, valid - j, done - k < kNear ? done - k : kNear,
                               from + j * lane_stride + k, lane_stride, to + k * width + j);
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
