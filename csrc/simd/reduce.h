// Reductions of one contiguous row (n,) in kLanes interleaved parts, which become vector code and
// whose order only n decides.
#pragma once

#include <cstdint>

namespace pynn::PYNN_ISA {
namespace {

constexpr int kLanes = 16;

// Adds value(i), i = 0 ... n, to lanes[i % kLanes].
template <typename A, typename Value>
inline void accumulate(A (&lanes)[kLanes], std::int64_t n, const Value& value) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<A>(value(i + lane));
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += static_cast<A>(value(i + lane));
}

template <typename A>
inline A total(A (&lanes)[kLanes]) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// The sum of value(i), i = 0 ... n, in type A.
template <typename A, typename Value>
inline A sum(std::int64_t n, const Value& value) {
  if (n < kLanes) {
    A short_sum = 0;
    for (std::int64_t i = 0; i < n; ++i) short_sum += static_cast<A>(value(i));
    return short_sum;
  }
  A lanes[kLanes] = {};
  accumulate(lanes, n, value);
  return total(lanes);
}

// The largest of a row that has at least one value; NaN is passed over, unless it comes first in
// its lane.
template <typename T>
inline T maximum(std::int64_t n, const T* x) {
  constexpr int kWide =
      4 * kLanes;  // more lanes: they live in memory here, and each store must come back first
  T largest = x[0];
  if (n >= kWide) {
    T lanes[kWide];
    for (int lane = 0; lane < kWide; ++lane) lanes[lane] = x[lane];
    for (std::int64_t i = kWide; i + kWide <= n; i += kWide)
      for (int lane = 0; lane < kWide; ++lane)
        lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (int lane = 0; lane < kWide; ++lane)
      largest = lanes[lane] > largest ? lanes[lane] : largest;
  }
  const T* rest = x + n / kWide * kWide;
  for (int i = 0; i < static_cast<int>(n % kWide); ++i)
    largest = rest[i] > largest ? rest[i] : largest;
  return largest;
}

}  // namespace
}  // namespace pynn::PYNN_ISA
