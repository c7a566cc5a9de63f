// A window that slides over an image: the geometry of convolutions and pools.
#pragma once

#include <cstdint>

namespace pynn {

// H, W image; KH, KW window; OH, OW positions. Position (oh, ow) sees the pixels (oh * stride_h -
// top + kh * dilation_h, ow * stride_w - left + kw * dilation_w); those outside the image are
// padding.
struct Window {
  std::int64_t H = 0, W = 0, KH = 0, KW = 0, OH = 0, OW = 0;
  std::int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;
};

}  // namespace pynn
