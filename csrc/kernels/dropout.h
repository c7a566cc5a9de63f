#pragma once

#include <cstdint>

#include "runtime/philox.h"

namespace pynn {

// x, y (size,): the elements first ... first + size of one sample; first is a multiple of 4.
template <typename T>
struct DropoutKernels {
  // y = 0 where the element's random word is below threshold, else scale * x. Overwrites y.
  void (*forward)(const PhiloxStream& stream, std::uint32_t sample, std::int64_t first,
                  std::int64_t size, std::uint32_t threshold, T scale, const T* x, T* y);
  // The same for 16 samples that lie in the lanes, the first of them `sample`: x, y (size, 16).
  void (*forward_block)(const PhiloxStream& stream, std::uint32_t sample, std::int64_t first,
                        std::int64_t size, std::uint32_t threshold, T scale, const T* x, T* y);
};

}  // namespace pynn
