#include "simd/sample_blocks.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr int kSamples = static_cast<int>(kBlockLanes);

template <typename T>
void gather(std::int64_t count, const T* const* rows, T* to) {
  constexpr int lanes = kLanes<T>;
  for (int first = 0; first < kSamples; first += lanes) {
    std::int64_t i = 0;
    while (count >= lanes && i < count) {
      if (i + lanes > count) i = count - lanes;  // the last square overlaps the one before
      Vector<T> square[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r)
        square[r] = rows[first + r] ? load(rows[first + r] + i) : Vector<T>{};
      for (int r = 0; r < lanes; ++r)
        if (rows[first + r]) __builtin_prefetch(rows[first + r] + i + 4 * lanes);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) store<T>(to + (i + r) * kSamples + first, square[r]);
      i += lanes;
    }
    for (; i < count; ++i)
      for (int r = first; r < first + lanes; ++r)
        to[i * kSamples + r] = rows[r] ? rows[r][i] : T(0);
  }
}

template <typename T>
void scatter(std::int64_t count, const T* from, T* const* rows) {
  constexpr int lanes = kLanes<T>;
  for (int first = 0; first < kSamples; first += lanes) {
    std::int64_t i = 0;
    while (count >= lanes && i < count) {
      if (i + lanes > count) i = count - lanes;
      Vector<T> square[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) square[r] = load(from + (i + r) * kSamples + first);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r)
        if (rows[first + r]) store<T>(rows[first + r] + i, square[r]);
      i += lanes;
    }
    for (; i < count; ++i)
      for (int r = first; r < first + lanes; ++r)
        if (rows[r]) rows[r][i] = from[i * kSamples + r];
  }
}

template <typename T>
void take(std::int64_t count, std::int64_t begin, std::int64_t end, const T* from, T* to) {
  constexpr int lanes = kLanes<T>;
  for (int first = 0; first < kSamples; first += lanes) {
    Vector<T> lane{};
    for (int i = 0; i < lanes; ++i) lane[i] = static_cast<T>(first + i);
    const auto taken =
        (lane >= Vector<T>{} + static_cast<T>(begin)) & (lane < Vector<T>{} + static_cast<T>(end));
    for (std::int64_t i = first; i < count * kSamples; i += kSamples)
      store<T>(to + i, taken ? load(from + i) : Vector<T>{});
  }
}

}  // namespace

void get(SampleBlockKernels<float>& k) { k = {gather<float>, scatter<float>, take<float>}; }
void get(SampleBlockKernels<double>& k) { k = {gather<double>, scatter<double>, take<double>}; }

}  // namespace pynn::PYNN_ISA
