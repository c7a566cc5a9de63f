// What pynn calls of NVIDIA's cuBLASLt, which is found at run time and without which pynn does. Its
// header is not needed to build: types and numbers are those of cublasLt.h of CUDA 13, under names
// of pynn's; tests/cuda/libraries/check_cublaslt.cpp compares them.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace pynn::cuda::lt {

constexpr int kSuccess = 0, kNotSupported = 15;  // cublasStatus_t

// cudaDataType_t
enum class Type : int { float32 = 0, float64 = 1 };
// cublasComputeType_t
enum class Compute : int { float32 = 68, float64 = 70, bf16 = 75, tf32 = 77 };
// Each an int32, 0 or 1.
enum class OperationAttribute : int { transpose_a = 3, transpose_b = 4 };
// An int32; an int64, in elements.
enum class LayoutAttribute : int { batch_count = 5, batch_stride = 6 };
enum class PreferenceAttribute : int {
  most_workspace = 1,     // uint64, bytes
  reduction_schemes = 3,  // uint32, a mask
  alignment_a = 5,        // uint32, bytes; of b, c and d likewise
  alignment_b = 6,
  alignment_c = 7,
  alignment_d = 8
};
// Parts of a sum are added in memory of their own, in a fixed order; the other schemes add them to
// the result, or round them to its type.
constexpr std::uint32_t kReduceApart = 2;

struct Context;  // cublasLtHandle_t points to it
struct Operation;
struct Layout;  // column-major
struct Preference;
struct Algorithm {
  std::uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace;  // bytes
  int status;
  float waves;
  int reserved[4];
};

// The functions that are called, without the "cublasLt" of their names. All give a status.
struct Functions {
  int (*Create)(Context**);
  int (*MatmulDescCreate)(Operation**, Compute, Type scale);
  int (*MatmulDescDestroy)(Operation*);
  int (*MatmulDescSetAttribute)(Operation*, OperationAttribute, const void*, std::size_t);
  int (*MatrixLayoutCreate)(Layout**, Type, std::uint64_t rows, std::uint64_t columns,
                            std::int64_t leading);
  int (*MatrixLayoutDestroy)(Layout*);
  int (*MatrixLayoutSetAttribute)(Layout*, LayoutAttribute, const void*, std::size_t);
  int (*MatmulPreferenceCreate)(Preference**);
  int (*MatmulPreferenceDestroy)(Preference*);
  int (*MatmulPreferenceSetAttribute)(Preference*, PreferenceAttribute, const void*, std::size_t);
  int (*MatmulAlgoGetHeuristic)(Context*, Operation*, Layout* a, Layout* b, Layout* c, Layout* d,
                                Preference*, int wanted, Heuristic*, int* found);
  // d = alpha a b + beta c, on the stream.
  int (*Matmul)(Context*, Operation*, const void* alpha, const void* a, Layout*, const void* b,
                Layout*, const void* beta, const void* c, Layout*, void* d, Layout*,
                const Algorithm*, void* workspace, std::size_t workspace_bytes, cudaStream_t);
};

// Null where the library is missing, or lacks one of them.
const Functions* functions();
// Of the session (session.h), made when it is first asked for, which must not be while a graph is
// recorded. Null where it cannot be made.
Context* context();

}  // namespace pynn::cuda::lt
