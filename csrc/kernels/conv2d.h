#pragma once

#include <cstdint>

#include "kernels/window.h"

namespace pynn {

// x (N, C, H, W)   w (O, C/groups, KH, KW)   b (O,)   y (N, O, OH, OW): dense, row-major. Group g
// of the channels of x makes group g of the channels of y.
struct Conv2dShape {
  std::int64_t N = 0, C = 0, O = 0, groups = 1;
  Window window;
};

// How a convolution is cut into independent units, by its shape alone.
struct Conv2dUnits {
  std::int64_t forward = 0, backward_input = 0, backward_weight = 0;
  std::int64_t shards = 0;   // runs of samples whose weight gradients are summed apart
  std::int64_t scratch = 0;  // elements of working memory of a call, at most
};

// Every call does the units begin ... end and overwrites what it is for. scratch (units.scratch,),
// aligned to 64 bytes.
template <typename T>
struct Conv2dKernels {
  Conv2dUnits (*units)(const Conv2dShape& s);
  // y = conv(x, w) + b; b may be null.
  void (*forward)(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* x,
                  const T* w, const T* b, T* y, T* scratch);
  // dx (N, C, H, W).
  void (*backward_input)(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                         const T* w, T* dx, T* scratch);
  // shards (units.shards, O, C/groups, KH, KW): each the weight gradient of its samples.
  void (*backward_weight)(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                          const T* x, T* shards, T* scratch);
  // dw[begin ... end) = the sum of `count` shards of `size` elements each, in their order.
  void (*combine)(std::int64_t count, std::int64_t size, std::int64_t begin, std::int64_t end,
                  const T* shards, T* dw);
  // db[begin ... end) = the sums of those channels of dy, in double and in order of the samples.
  void (*backward_bias)(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                        T* db);
};

}  // namespace pynn
