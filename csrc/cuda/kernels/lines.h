// Kernels that work along lines of an array (outer, axis, inner): some lanes of a block have lines
// of their own, which lie side by side, and its slices share the elements of a line.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/index.h"

namespace pynn::cuda {

constexpr int kLineThreads = 256;

struct Lines {
  int count, axis, inner, lanes;
  Divider along;  // inner

  Lines(std::int64_t outer, std::int64_t axis_, std::int64_t inner_)
      : count(narrow(outer, inner_)),
        axis(narrow(axis_)),
        inner(narrow(inner_)),
        lanes(1),
        along(inner) {
    narrow(outer, axis_, inner_);
    while (lanes < 32 && lanes < inner) lanes *= 2;
  }
  unsigned blocks() const { return blocks_of(count, lanes); }

  // Of this thread.
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % lanes; }
  __device__ __forceinline__ int slice() const { return static_cast<int>(threadIdx.x) / lanes; }
  __device__ __forceinline__ int slices() const { return kLineThreads / lanes; }
  __device__ __forceinline__ int line() const {
    return static_cast<int>(blockIdx.x) * lanes + lane();
  }
  // Where the first element of a line is; the others follow `inner` apart.
  __device__ __forceinline__ int first(int line) const {
    int outer;
    const int place = along.split(line, outer);
    return outer * axis * inner + place;
  }

  // What the slices of this thread's line have, joined as a tree; `buffer` (kLineThreads,) in
  // shared memory. All threads of the block call it.
  template <typename A, typename Join>
  __device__ __forceinline__ A join(A value, A* buffer, const Join& joined) const {
    const int thread = static_cast<int>(threadIdx.x);
    __syncthreads();
    buffer[thread] = value;
    for (int half = slices() / 2; half > 0; half /= 2) {
      __syncthreads();
      if (slice() < half) buffer[thread] = joined(buffer[thread], buffer[thread + half * lanes]);
    }
    __syncthreads();
    return buffer[lane()];
  }
  template <typename A>
  __device__ __forceinline__ A sum(A value, A* buffer) const {
    return join(value, buffer, [](A a, A b) { return a + b; });
  }
  template <typename A>
  __device__ __forceinline__ A largest(A value, A* buffer) const {
    return join(value, buffer, [](A a, A b) { return b > a ? b : a; });
  }
};

template <typename T>
__device__ __forceinline__ T minus_infinity() {
  return static_cast<T>(-HUGE_VAL);
}

}  // namespace pynn::cuda
