#pragma once

#include <cstdint>

#include "kernels/window.h"

namespace pynn {

// The code of a window in blocks that has no gradient.
constexpr std::uint8_t kNoPixel = 255;

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
  // The same with codes (planes, OH, OW) instead of argmax, which say where in its window a maximum
  // is, kh * KW + kw; they may be null.
  void (*forward_codes)(const Window& w, std::int64_t begin, std::int64_t end, const T* x, T* y,
                        std::uint8_t* codes);
  // dx, or with `add` what dx is increased by.
  void (*backward_codes)(const Window& w, std::int64_t begin, std::int64_t end, const T* dy,
                         const std::uint8_t* codes, bool add, T* dx);
  // One image of 16 samples that lie in the lanes: x (H, W, 16) with x_row elements between its
  // rows, y (OH, OW, 16) likewise. codes (OH, OW, 16): which pixel of the window, kh * KW + kw, or
  // with `of_relu`, where x is what relu gave, kNoPixel if none is above 0; may be null.
  void (*forward_block)(const Window& w, const T* x, std::int64_t x_row, T* y, std::int64_t y_row,
                        bool of_relu, std::uint8_t* codes);
  // dx (H, W, 16) = dy (OH, OW, 16) at the pixels that the codes say, and 0 elsewhere, or is
  // increased by it.
  void (*backward_block)(const Window& w, const T* dy, const std::uint8_t* codes, bool add, T* dx);
};

}  // namespace pynn
