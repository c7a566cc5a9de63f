// Large convolutions by cuDNN, where the process has it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <vector>

#include "cuda/kernels/precision.h"
#include "cuda/runtime/cudnn.h"
#include "kernels/conv2d.h"

namespace pynn::cuda {

// From how many floating-point operations on a convolution is a large one: so many, as for products
// (large_product.h), and as many again for every so many values of its two images, which are
// transposed for cuDNN. At the 4 TB/s of an H200 the latter take 8 us; 10^9 operations take 30 us
// at half of its peak and 20 us at three quarters. This is an estimate; benchmarks/gpu_check.py
// measures where it should be.
constexpr double kLargeConvolution = 1e9, kValuesMoved = 4e6;
// The number of operations that plans are made with from now on.
double large_convolution_flops();
void set_large_convolution_flops(double flops);

// One of the three that a convolution is: y from w and x, dx from w and dy, dw from dy and x. Its
// engine is chosen when it is made, from the shape alone, so that its bits are the same in every
// run on one kind of device with one version of the library.
template <typename T>
class LargeConvolution {
 public:
  enum class Result { y, dx, dw };

  // None: `run` leaves it to pynn's kernels.
  LargeConvolution() = default;
  // None where the convolution is not large, or the library is missing or refuses.
  LargeConvolution(const Conv2dShape& s, Precision precision, Result result);

  explicit operator bool() const { return found_; }
  // Bytes that `run` works in.
  std::int64_t workspace() const;
  // result (+)= the convolution of a and b, in the order above; all lie as in kernels/conv2d.h.
  // False where the result was not written.
  bool run(const T* a, const T* b, bool add, T* result, char* workspace, cudaStream_t stream) const;

 private:
  using Sizes = std::array<std::int64_t, 4>;
  // The library's objects: a plan and what it was made of.
  struct Made {
    std::uint64_t session = 0;
    std::vector<dnn::Owned> parts;
    dnn::Descriptor* plan = nullptr;
    std::int64_t workspace = 0;
  };

  Made make() const;
  bool fits(dnn::Descriptor* configuration) const;
  dnn::Descriptor* plan() const;
  bool execute(dnn::Descriptor* plan, const T* a, const T* b, T* result, char* workspace,
               cudaStream_t stream) const;

  Conv2dShape s_;
  Result result_ = Result::y;
  Sizes a_{}, b_{}, out_{};  // of a, b and the result, as the library has them
  bool exact_ = false;       // no factor is rounded
  bool found_ = false;
  std::int64_t b_bytes_ = 0, other_bytes_ = 0, weight_bytes_ = 0, most_workspace_ = 0;
  mutable Made made_;
};

}  // namespace pynn::cuda
