#pragma once

#include <cstdint>

#include "runtime/philox.h"

namespace pynn {

// x, y (C, H, W): one sample.
struct DropBlock2dShape {
  std::int64_t C, H, W, block;  // block: side of a block, at most H and W
  std::uint64_t threshold;  // a block is dropped where the random word of its first corner is below
};

template <typename T>
struct DropBlock2dKernels {
  // y = 0 in the dropped blocks, else x * (C H W / elements kept). Overwrites y.
  void (*forward)(const DropBlock2dShape& s, const PhiloxStream& stream, std::uint32_t sample,
                  const T* x, T* y);
};

}  // namespace pynn
