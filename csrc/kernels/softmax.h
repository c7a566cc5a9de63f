#pragma once

#include <cstdint>

namespace pynn {

// x, y, dy, dx (outer, axis, inner): a line runs along the middle axis; line l is the one of l /
// inner and l % inner.
struct SoftmaxShape {
  std::int64_t outer, axis, inner;
  std::int64_t lines() const { return axis == 0 ? 0 : outer * inner; }
};

// Each call overwrites the lines begin ... end of its last argument.
template <typename T>
struct SoftmaxKernels {
  void (*forward)(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* x, T* y);
  void (*backward)(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                   const T* y, T* dx);
};

}  // namespace pynn
