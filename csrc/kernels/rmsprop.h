#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct RmspropSettings {
  T lr, alpha, one_minus_alpha, eps, momentum, weight_decay;
};

// p, g, square, velocity (size,). p, square and velocity are updated in place; velocity may be
// null.
template <typename T>
struct RmspropKernels {
  void (*update)(const RmspropSettings<T>& settings, std::int64_t size, T* p, const T* g, T* square,
                 T* velocity);
};

}  // namespace pynn
