#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct AdamSettings {
  T beta1, beta2, one_minus_beta1, one_minus_beta2;
  T step_size;     // lr / (1 - beta1^step)
  T second_scale;  // 1 / sqrt(1 - beta2^step)
  T eps;
  T weight_decay;  // added to the gradient, as a multiple of p
  T shrink;        // p is multiplied by it first: decoupled decay
};

// p, g, m, v (size,). p, m and v are updated in place.
template <typename T>
struct AdamKernels {
  void (*update)(const AdamSettings<T>& settings, std::int64_t size, T* p, const T* g, T* m, T* v);
};

}  // namespace pynn
