// How every kernel is launched, and the shared memory of its blocks.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "cuda/kernels/error.h"

#ifdef __CUDACC__
#define PYNN_UNROLL _Pragma("unroll")
#else
#define PYNN_UNROLL
#endif

namespace pynn::cuda {

// The one block of dynamic shared memory that a kernel has; it has no other.
extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];

template <typename T>
__device__ __forceinline__ T* shared_memory() {
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

// No block may ask for more, so that every device from sm_75 on has it without being told.
constexpr std::size_t kMaxSharedBytes = 48 * 1024;

// Every kernel begins with it: from here on it sees what the kernels before it on its stream have
// written. Where launches overlap (below), its blocks may have come before those were done, and let
// those of the next kernel come.
__device__ __forceinline__ void begin_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Whether a kernel may be brought to the processors while the one before it ends ("programmatic
// dependent launch"), of devices from sm_90 on; others refuse such a launch.
inline bool& launches_overlap() {
  static bool overlap = false;
  return overlap;
}

// Nothing is launched where the grid is empty. Throws Error where the launch fails.
template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &overlap;
  config.numAttrs = launches_overlap() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
        "a kernel launch");
}

}  // namespace pynn::cuda
