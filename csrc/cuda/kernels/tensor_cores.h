// What tensor cores do, where the code that is compiled may ask for them.
#pragma once

#include <cuda_runtime.h>

namespace pynn::cuda {

// sum (16, 8) += a (16, 8) b (8, 8) in tf32, spread over the lanes of a warp: PTX ISA, "Matrix
// fragments for mma.m16n8k8".
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define PYNN_TENSOR_CORES
__device__ __forceinline__ void multiply_fragments(float (&sum)[4], const unsigned (&a)[4],
                                                   const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#elif defined(PYNN_CUDA_EMULATOR)
#define PYNN_TENSOR_CORES
inline void multiply_fragments(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  emulator::multiply_fragments_tf32(sum, a, b);
}
#endif

}  // namespace pynn::cuda
