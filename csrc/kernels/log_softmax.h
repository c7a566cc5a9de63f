#pragma once

#include <cstdint>

#include "kernels/softmax.h"

namespace pynn {

// As SoftmaxKernels; y = log(softmax(x)).
template <typename T>
struct LogSoftmaxKernels {
  void (*forward)(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* x, T* y);
  void (*backward)(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                   const T* y, T* dx);
};

}  // namespace pynn
