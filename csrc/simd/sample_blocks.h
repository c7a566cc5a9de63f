// Between rows of samples, as NumPy holds them, and blocks of 16 samples that lie in the lanes.
#pragma once

#include <cstdint>

#include "simd/outer_product.h"

namespace pynn {

template <typename T>
struct SampleBlockKernels {
  // to (count, 16): lane i = rows[i][0 ... count), or 0 where rows[i] is null.
  void (*gather)(std::int64_t count, const T* const* rows, T* to);
  // rows[i][0 ... count) = lane i of from (count, 16), except where rows[i] is null.
  void (*scatter)(std::int64_t count, const T* from, T* const* rows);
  // to (count, 16): lanes begin ... end of from, and 0 in the others, which are read as well. The
  // two may be one.
  void (*take)(std::int64_t count, std::int64_t begin, std::int64_t end, const T* from, T* to);
};

}  // namespace pynn
