#pragma once

#include <cstdint>

namespace pynn {

// What the processor can do at most: independent fused multiply-adds on registers, for benchmarks.
template <typename T>
struct PeakKernels {
  // Returns a number that depends on all of them; `*operations` is set to how many floating-point
  // operations were done.
  T (*fma_loop)(std::int64_t iterations, std::int64_t* operations);
};

}  // namespace pynn
