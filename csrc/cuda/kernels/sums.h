// Sums whose order the number of terms and of threads decides, and nothing else.
#pragma once

#include <cuda_runtime.h>

namespace pynn::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// A long sum of one thread: runs of a few terms in T, which join a double. So float costs hardly
// more than in T alone, and errors grow with the length of a run.
template <typename T>
class LongSum {
 public:
  __device__ __forceinline__ void add(T value) {
    run_ += value;
    if (++count_ == kRun) {
      total_ += static_cast<double>(run_);
      run_ = T(0);
      count_ = 0;
    }
  }
  __device__ __forceinline__ double total() const { return total_ + static_cast<double>(run_); }

 private:
  static constexpr int kRun = sizeof(T) == 4 ? 16 : 1;
  T run_ = 0;
  int count_ = 0;
  double total_ = 0;
};

// In every lane the sum over the warp.
template <typename A>
__device__ __forceinline__ A warp_sum(A value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// In every thread the sum over the block, a line of whole warps; `lines` (32,) in shared memory.
// All threads of the block call it.
template <typename A>
__device__ __forceinline__ A block_sum(A value, A* lines) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  value = warp_sum(value);
  __syncthreads();
  if (lane == 0) lines[warp] = value;
  __syncthreads();
  return warp_sum(lane < warps ? lines[lane] : A(0));
}

// Whether this block is the last of the grid to come here, with all that the others have written
// before visible; the same answer in all threads. `counter`, which must be 0 before the launch, is
// 0 again after it. `flag` is in shared memory.
__device__ __forceinline__ bool last_block(unsigned* counter, unsigned* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    *flag = atomicAdd(counter, 1u) == blocks - 1;
    if (*flag) *counter = 0;
  }
  __syncthreads();
  __threadfence();
  return *flag != 0;
}

}  // namespace pynn::cuda
