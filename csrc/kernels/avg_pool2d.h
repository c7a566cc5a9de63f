#pragma once

#include <cstdint>

#include "kernels/window.h"

namespace pynn {

// x, dx (planes, H, W)   y, dy (planes, OH, OW). A window's sum is divided by its pixels, counting
// those of the padding (but none beyond it) if count_include_pad. Each call does the planes begin
// ... end and overwrites its result.
template <typename T>
struct AvgPool2dKernels {
  void (*forward)(const Window& w, bool count_include_pad, std::int64_t begin, std::int64_t end,
                  const T* x, T* y);
  void (*backward)(const Window& w, bool count_include_pad, std::int64_t begin, std::int64_t end,
                   const T* dy, T* dx);
  // The mean of each plane: y, dy (planes,).
  void (*global_forward)(std::int64_t pixels, std::int64_t begin, std::int64_t end, const T* x,
                         T* y);
  void (*global_backward)(std::int64_t pixels, std::int64_t begin, std::int64_t end, const T* dy,
                          T* dx);
};

}  // namespace pynn
