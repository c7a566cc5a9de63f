// How add and mul walk over broadcast arrays.
#pragma once

#include "kernels/broadcast.h"
#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kOutputs = 256;  // sums kept side by side
constexpr std::int64_t kNarrow = 4;     // rows of fewer than a quarter of that are narrow

// Steps through the first `count` axes, the last of them fastest, and knows where in the two arrays
// it is.
class Walk {
 public:
  Walk(const Axes& axes, int count, std::int64_t flat) : axes_(axes), count_(count) {
    for (int i = count - 1; i >= 0; --i) {
      index_[i] = flat % axes.size[i];
      flat /= axes.size[i];
      a += index_[i] * axes.a[i];
      b += index_[i] * axes.b[i];
    }
  }
  void next() {
    for (int i = count_ - 1; i >= 0; --i) {
      a += axes_.a[i];
      b += axes_.b[i];
      if (++index_[i] < axes_.size[i]) return;
      a -= index_[i] * axes_.a[i];
      b -= index_[i] * axes_.b[i];
      index_[i] = 0;
    }
  }
  std::int64_t a = 0, b = 0;

 private:
  const Axes& axes_;
  const int count_;
  std::int64_t index_[kMaxAxes];
};

template <typename T, typename Op>
inline void broadcast(const BroadcastShape& s, std::int64_t begin, std::int64_t end, const T* a,
                      const T* b, T* y, const Op& op) {
  const int last = s.axes.count - 1;
  const std::int64_t size = s.axes.size[last];
  if (begin >= end) return;
  Walk at(s.axes, last, begin);
  for (std::int64_t row = begin; row < end; ++row, at.next()) {
    const T *a_row = a + at.a, *b_row = b + at.b;
    T* y_row = y + row * size;
    if (s.axes.a[last] == 0) {
      const T scalar = *a_row;
      for (std::int64_t i = 0; i < size; ++i) y_row[i] = op(scalar, b_row[i]);
    } else if (s.axes.b[last] == 0) {
      const T scalar = *b_row;
      for (std::int64_t i = 0; i < size; ++i) y_row[i] = op(a_row[i], scalar);
    } else {
      for (std::int64_t i = 0; i < size; ++i) y_row[i] = op(a_row[i], b_row[i]);
    }
  }
}

// da[o] = the sum over the summed axes of term(offset in dy, offset in b), in double, in their
// order. An output's bits do not depend on begin and end.
template <typename T, typename Term>
inline void reduce(const ReductionShape& s, std::int64_t begin, std::int64_t end, T* da,
                   const Term& term) {
  const Axes &kept = s.kept, &summed = s.summed;
  const int last_kept = kept.count - 1, last_summed = summed.count - 1;
  const std::int64_t width = last_kept >= 0 ? kept.size[last_kept] : 1;
  const std::int64_t length = last_summed >= 0 ? summed.size[last_summed] : 1;
  std::int64_t rows = 1;
  for (int i = 0; i < last_summed; ++i) rows *= summed.size[i];
  // Where the last axis of dy is kept, neighbouring outputs are summed side by side; otherwise each
  // one along its rows.
  const bool side_by_side = last_kept >= 0 && kept.a[last_kept] == 1;
  for (std::int64_t o = begin; o < end;) {
    if (side_by_side) {
      const std::int64_t first = o % width;
      std::int64_t count = width - first < kOutputs ? width - first : kOutputs;
      if (o + count > end) count = end - o;
      const Walk at(kept, kept.count, o);
      const std::int64_t step = kept.b[last_kept];
      double sums[kOutputs] = {};
      const std::int64_t dy_step = last_summed >= 0 ? summed.a[last_summed] : 0;
      const std::int64_t b_step = last_summed >= 0 ? summed.b[last_summed] : 0;
      if (kNarrow * width <= kOutputs && dy_step == width && b_step == width && step == 1) {
        // Narrow rows, one right behind the other: many at once.
        const std::int64_t at_once = kOutputs / width, dy_row = at.a - first, b_row = at.b - first;
        Walk outer(summed, rows * length > 0 ? last_summed : 0, 0);
        for (std::int64_t r = 0; r < rows; ++r, outer.next())
          for (std::int64_t l = 0; l < length; l += at_once) {
            const std::int64_t size = (length - l < at_once ? length - l : at_once) * width;
            const std::int64_t dy = dy_row + outer.a + l * width, b = b_row + outer.b + l * width;
            for (std::int64_t i = 0; i < size; ++i) sums[i] += term(dy + i, b + i);
          }
        for (std::int64_t row = 1; row < at_once; ++row)
          for (std::int64_t i = 0; i < width; ++i) sums[i] += sums[row * width + i];
        for (std::int64_t i = 0; i < count; ++i) da[o + i] = static_cast<T>(sums[first + i]);
        o += count;
        continue;
      }
      Walk by(summed, rows * length > 0 ? last_summed : 0, 0);
      for (std::int64_t r = 0; r < rows; ++r, by.next()) {
        std::int64_t dy = at.a + by.a, b = at.b + by.b;
        for (std::int64_t l = 0; l < length; ++l, dy += dy_step, b += b_step)
          if (step == 1)
            for (std::int64_t i = 0; i < count; ++i) sums[i] += term(dy + i, b + i);
          else
            for (std::int64_t i = 0; i < count; ++i) sums[i] += term(dy + i, b + i * step);
      }
      for (std::int64_t i = 0; i < count; ++i) da[o + i] = static_cast<T>(sums[i]);
      o += count;
      continue;
    }
    const Walk at(kept, kept.count, o);
    double lanes[kLanes] = {};
    Walk by(summed, rows > 0 ? last_summed : 0, 0);
    for (std::int64_t r = 0; r < rows; ++r, by.next()) {
      const std::int64_t dy = at.a + by.a, b = at.b + by.b;
      const std::int64_t step = last_summed >= 0 ? summed.b[last_summed] : 0;
      if (step == 1)
        accumulate(lanes, length, [&](std::int64_t i) { return term(dy + i, b + i); });
      else
        accumulate(lanes, length, [&](std::int64_t i) { return term(dy + i, b + i * step); });
    }
    da[o++] = static_cast<T>(total(lanes));
  }
}

}  // namespace
}  // namespace pynn::PYNN_ISA
