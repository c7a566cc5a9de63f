#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pynn::cuda {

// y_r (+)= x_r for `rows` rows of `width` values, which begin x_stride and y_stride apart: each
// part of a concatenation, forward and backward. Along the first axis of a sample there is one row.
template <typename T>
void copy_rows(std::int64_t rows, std::int64_t width, const T* x, std::int64_t x_stride, bool add,
               T* y, std::int64_t y_stride, cudaStream_t stream);

}  // namespace pynn::cuda
