#pragma once

#include <cstdint>

namespace pynn {

// x, y, dy, dx (size,). Each call overwrites its array of results.
template <typename T>
struct LeakyReluKernels {
  void (*forward)(std::int64_t size, const T* x, T* y, T negative_slope);
  void (*backward)(std::int64_t size, const T* dy, const T* x, T* dx, T negative_slope);
};

}  // namespace pynn
