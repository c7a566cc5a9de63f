// Padded images, a strip of rows at a time.
#pragma once

#include "kernels/window.h"
#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// Rows top ... top + count of the padded image of one channel -> to (count, pitch).
template <typename T>
void copy_padded(const Window& w, std::int64_t pitch, std::int64_t top, std::int64_t count,
                 const T* x, T* to) {
  for (std::int64_t i = 0; i < count; ++i, to += pitch) {
    const std::int64_t h = top + i - w.top;
    const bool inside = h >= 0 && h < w.H;
    if (inside) copy_run(w.W, x + h * w.W, to + w.left);
    for (std::int64_t j = 0; j < (inside ? w.left : pitch); ++j) to[j] = T(0);
    if (inside)
      for (std::int64_t j = w.left + w.W; j < pitch; ++j) to[j] = T(0);
  }
}

}  // namespace
}  // namespace pynn::PYNN_ISA
