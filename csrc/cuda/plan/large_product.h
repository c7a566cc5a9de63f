// Large products of matrices by cuBLASLt, where the process has it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "cuda/kernels/gemm.h"
#include "cuda/kernels/precision.h"
#include "cuda/runtime/cublaslt.h"

namespace pynn::cuda {

// From how many floating-point operations on a product is a large one. pynn's kernels add the bias
// and apply the activation where they have the sums; after cuBLASLt's that is one more launch and
// one more way through the result. 10^9 operations take at least 15 us at the 67 TFLOP/s of float32
// that an H200 has, beside which a launch within a graph (about 1 us) is little. This is an
// estimate; benchmarks/gpu_check.py measures where it should be.
constexpr double kLargeProduct = 1e9;
// The number that plans are made with from now on.
double large_product_flops();
void set_large_product_flops(double flops);

// One product. Its algorithm is chosen when it is made, from the shape alone, so that its bits are
// the same in every run on one kind of device with one version of the library.
template <typename T>
class LargeProduct {
 public:
  // None: `run` leaves it to pynn's kernels.
  LargeProduct() = default;
  // None where the product is not large, the library is missing or refuses, or the matrices lie in
  // a way that it has no words for.
  LargeProduct(const GemmShape& shape, Precision precision);

  explicit operator bool() const { return aligned_.found || loose_.found; }
  // Bytes that `run` works in.
  std::int64_t workspace() const;
  // y = a b, or y += a b. False where nothing was launched.
  bool run(const T* a, const T* b, bool add, T* y, char* workspace, cudaStream_t stream) const;

 private:
  template <typename Object, int (*lt::Functions::*destroy)(Object*)>
  struct Destroy {
    void operator()(Object* object) const { (lt::functions()->*destroy)(object); }
  };
  using Operation =
      std::unique_ptr<lt::Operation, Destroy<lt::Operation, &lt::Functions::MatmulDescDestroy>>;
  using Layout =
      std::unique_ptr<lt::Layout, Destroy<lt::Layout, &lt::Functions::MatrixLayoutDestroy>>;
  struct Matrix;
  struct Choice {
    bool found = false;
    lt::Algorithm algorithm{};
    std::size_t workspace = 0;
  };

  static Matrix find_matrix(std::int64_t rows, std::int64_t columns, std::int64_t down,
                            std::int64_t across, std::int64_t batch);
  static Layout make_layout(const Matrix& matrix, std::int64_t count);
  bool describe(const GemmShape& shape, Precision precision);
  Choice choose(std::uint32_t alignment) const;

  bool swapped_ = false;  // the library's first factor is a
  Operation operation_;
  Layout left_, right_, result_;
  // For arrays that begin at multiples of 16 bytes, as fast loads need it, and for others: a
  // parameter lies wherever those before it end.
  Choice aligned_, loose_;
};

}  // namespace pynn::cuda
