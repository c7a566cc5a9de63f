// The product of two matrices: what matmul, linear and the convolutions are made of.
#pragma once

#include <cstdint>

namespace pynn {

// C (M, N) = start + A (M, K) B (K, N). A and B have any strides, so a transpose is a matter of
// strides; a row of C is dense. Every element of C is one chain of multiply-adds over ascending k:
// however rows, columns or K are split, the bits are the same.
template <typename T>
struct Gemm {
  std::int64_t M = 0, N = 0, K = 0;
  const T* a = nullptr;
  std::int64_t a_row = 0, a_column = 0;  // strides, in elements
  const T* b = nullptr;
  std::int64_t b_row = 0, b_column = 0;
  T* c = nullptr;
  std::int64_t c_row = 0;
  bool accumulate = false;          // start is what C holds; otherwise
  const T* row_start = nullptr;     // (M,): one value for each row, or
  const T* column_start = nullptr;  // (N,): one for each column, or else 0
  bool b_padded =
      false;  // b_column is 1, and rows of B may be read up to the next multiple of 128 columns
  // All of A, or of B, as pack_a or pack_b has laid it out; null: it is laid out on the way.
  const T *packed_a = nullptr, *packed_b = nullptr;
};

// Elements of working memory that one product needs, whatever its size.
constexpr std::int64_t kGemmScratch = 256 * 512 + 256 * 16 + 128;
// Rows and columns of C are best split over threads at multiples of these.
constexpr std::int64_t kGemmRowUnit = 12, kGemmColumnUnit = 32;

template <typename T>
struct GemmKernels {
  void (*run)(const Gemm<T>& product, T* scratch);  // scratch (kGemmScratch,), aligned to 64 bytes
  // For products of the same A and M: to (M K + 64,). For products of the same B and N:
  // to (N rounded up to kGemmColumnUnit, K).
  void (*pack_a)(const Gemm<T>& product, T* to);
  void (*pack_b)(const Gemm<T>& product, T* to);
};

#ifdef PYNN_ISA
namespace PYNN_ISA {  // for the other kernels of the same instruction set
void gemm(const Gemm<float>& product, float* scratch);
void gemm(const Gemm<double>& product, double* scratch);
}  // namespace PYNN_ISA
#endif

}  // namespace pynn
