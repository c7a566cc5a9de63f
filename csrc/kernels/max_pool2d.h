#pragma once

#include <cstdint>

#include "kernels/window.h"

namespace pynn {

// x, dx (planes, H, W)   y, dy, argmax (planes, OH, OW), where argmax is the flat index h * W + w
// of a maximum. Every window has a pixel inside the image; padding never wins. Each call does the
// planes begin ... end and overwrites its results.
template <typename T>
struct MaxPool2dKernels {
  // The first of equal values wins, and the first NaN wins over everything.
  void (*forward)(const Window& w, std::int64_t begin, std::int64_t end, const T* x, T* y,
                  std::int64_t* argmax);
  // False where an entry of argmax lies outside the image; nothing is written for it.
  bool (*backward)(std::int64_t pixels, std::int64_t positions, std::int64_t begin,
                   std::int64_t end, const T* dy, const std::int64_t* argmax, T* dx);
};

}  // namespace pynn
