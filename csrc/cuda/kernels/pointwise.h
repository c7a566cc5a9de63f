// Kernels that do the same to every element of an array.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/index.h"
#include "cuda/kernels/launch.h"

namespace pynn::cuda {

constexpr int kPointwiseThreads = 256;
constexpr int kPointwiseEach =
    4;  // elements of a thread: enough loads under way to fill the memory

template <typename Element>
__global__ void __launch_bounds__(kPointwiseThreads, 4)
    pointwise_kernel(int size, Element element) {
  begin_kernel();
  const int first = static_cast<int>(blockIdx.x) * kPointwiseThreads * kPointwiseEach +
                    static_cast<int>(threadIdx.x);
  PYNN_UNROLL
  for (int j = 0; j < kPointwiseEach; ++j) {
    const int i = first + j * kPointwiseThreads;
    if (i >= 0 && i < size) element(i);
  }
}

// element(i) for i = 0 ... size; Element is a struct with a device operator().
template <typename Element>
void pointwise(int size, const Element& element, cudaStream_t stream) {
  launch(stream, blocks_of(size, kPointwiseThreads * kPointwiseEach), kPointwiseThreads, 0,
         pointwise_kernel<Element>, size, element);
}

template <typename T>
__device__ __forceinline__ void store(T* to, T value, bool add) {
  *to = add ? *to + value : value;
}

}  // namespace pynn::cuda
