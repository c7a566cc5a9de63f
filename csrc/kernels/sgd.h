#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct SgdSettings {
  T lr, momentum, gradient_factor,
      weight_decay;  // gradient_factor: 1 - momentum where velocity is an average, else 1
  bool nesterov;
};

// p, g, velocity (size,). p and velocity are updated in place; velocity may be null.
template <typename T>
struct SgdKernels {
  void (*update)(const SgdSettings<T>& settings, std::int64_t size, T* p, const T* g, T* velocity);
};

}  // namespace pynn
