// How values lie on the device, which every kernel here takes for granted.
//
// An activation of N samples is (features, N), dense: the samples of a batch lie side by side, so
// that the lanes of a warp are samples whatever a kernel does with channels and pixels. An image
// is (C, H, W, N), an array (N, A, B) is (A, B, N). Flattening and reshaping are no work, and
// neither is concatenation along the first axis of a sample beyond a copy. No batch is padded: N
// may be any number, 0 included, and nothing is read or written beyond it.
//
// Parameters and their gradients are row-major as everywhere: w (out, in) and
// (O, C/groups, KH, KW), b (O,).
//
// Of every function:
// * it launches kernels on `stream` and returns: no memory is allocated and nothing waits, so that
//   it may be captured; it throws Error where a launch fails, std::invalid_argument where a size
//   is beyond what the kernels can index (2^31 - 1 elements of one array);
// * results are overwritten, or added to where `add` says so;
// * an array may be its own result (x == y) where the function says "in place";
// * sums run in an order that the shapes decide, so that every run has the same bits;
// * T is float or double.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pynn::cuda {

// y (columns, rows) = the transpose of x (rows, columns): from (N, features) to the device's layout
// and back. U: float or double, and what y's elements are made from x's by conversion.
template <typename T, typename U>
void transpose(std::int64_t rows, std::int64_t columns, const T* x, U* y, cudaStream_t stream);

}  // namespace pynn::cuda
