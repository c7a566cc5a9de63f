#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct ConcatKernels {
  // y_r = x_r for `rows` rows of `width` values, which begin x_stride and y_stride apart.
  // Overwrites them.
  void (*copy_rows)(std::int64_t rows, std::int64_t width, const T* x, std::int64_t x_stride, T* y,
                    std::int64_t y_stride);
};

}  // namespace pynn
