// Sizes as kernels count: 32-bit numbers, checked once on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace pynn::cuda {

constexpr std::int64_t kLargestIndex = 0x7fffffff;

inline int narrow(std::int64_t size) {
  if (size < 0 || size > kLargestIndex)
    throw std::invalid_argument("an array of " + std::to_string(size) +
                                " elements is beyond what the kernels of a GPU can index, " +
                                std::to_string(kLargestIndex));
  return static_cast<int>(size);
}

// The product of sizes, checked.
template <typename... Sizes>
int narrow(std::int64_t first, Sizes... others) {
  std::int64_t product = first;
  bool zero = first == 0;
  for (const std::int64_t size : {static_cast<std::int64_t>(others)...}) {
    zero = zero || size == 0;
    if (!zero) product = narrow(product) * static_cast<std::int64_t>(narrow(size));
  }
  return zero ? 0 : narrow(product);
}

inline unsigned blocks_of(std::int64_t count, std::int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

// Division by a number that is known before the launch: n / d for 0 <= n < 2^31, with d >= 1.
// (Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.)
class Divider {
 public:
  Divider() = default;
  explicit Divider(int d) : d_(d) {
    if (d <= 1) return;
    int bits = 0;
    while ((std::uint64_t{1} << bits) < static_cast<std::uint64_t>(d)) ++bits;
    const auto divisor = static_cast<std::uint64_t>(d);
    magic_ = static_cast<unsigned>(((std::uint64_t{1} << (31 + bits)) + divisor - 1) / divisor);
    shift_ = static_cast<unsigned>(bits - 1);
  }
  __host__ __device__ int divisor() const { return d_; }
  // quotient = n / d; returns n % d.
  __device__ __forceinline__ int split(int n, int& quotient) const {
    quotient = d_ <= 1 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), magic_) >> shift_);
    return n - quotient * d_;
  }

 private:
  int d_ = 1;
  unsigned magic_ = 0, shift_ = 0;
};

}  // namespace pynn::cuda
