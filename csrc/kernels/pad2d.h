#pragma once

#include <cstdint>

namespace pynn {

// x, dx (planes, H, W); y, dy (planes, OH, OW).
struct Pad2dShape {
  std::int64_t planes, H, W, top, bottom, left, right;
  std::int64_t OH() const { return top + H + bottom; }
  std::int64_t OW() const { return left + W + right; }
};

// Each call overwrites the planes begin ... end of its last array.
template <typename T>
struct Pad2dKernels {
  void (*forward)(const Pad2dShape& s, std::int64_t begin, std::int64_t end, T value, const T* x,
                  T* y);
  void (*backward)(const Pad2dShape& s, std::int64_t begin, std::int64_t end, const T* dy, T* dx);
};

}  // namespace pynn
