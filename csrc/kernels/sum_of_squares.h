#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct SumOfSquaresKernels {
  double (*sum)(std::int64_t size, const T* g);  // g (size,)
};

}  // namespace pynn
