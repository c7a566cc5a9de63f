#pragma once

#include <cstdint>

namespace pynn {

// prediction, target, gradient, loss (size,).
template <typename T>
struct MseLossKernels {
  // Returns the sum of squared differences; gradient = gradient_scale * (prediction - target),
  // unless it is null.
  double (*sum)(std::int64_t size, const T* prediction, const T* target, T gradient_scale,
                T* gradient);
  // loss = (prediction - target)^2; overwrites it.
  void (*each)(std::int64_t size, const T* prediction, const T* target, T* loss);
};

}  // namespace pynn
