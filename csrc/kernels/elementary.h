#pragma once

#include <cstdint>

namespace pynn {

// Functions that operators of others are made of. x, y (size,); y may be x.
template <typename T>
struct ElementaryKernels {
  void (*exp)(std::int64_t size, const T* x, T* y);
  void (*log)(std::int64_t size, const T* x, T* y);
};

}  // namespace pynn
