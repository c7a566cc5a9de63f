#pragma once

#include <cstdint>

namespace pynn {

// x, y, dy, dx (size,). Each call overwrites its last argument.
template <typename T>
struct TanhKernels {
  void (*forward)(std::int64_t size, const T* x, T* y);
  void (*backward)(std::int64_t size, const T* dy, const T* y, T* dx);
};

}  // namespace pynn
