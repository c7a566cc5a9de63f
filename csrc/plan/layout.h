// How a value lies inside a plan: [blocks][channels][rows][columns][16], sixteen samples side by
// side, with a halo of zeros around each image where a convolution needs one; or, where there are
// few samples, as an array (N, channels, rows, columns): blocks of a single lane.
#pragma once

#include <cstdint>

#include "runtime/errors.h"
#include "simd/outer_product.h"

namespace pynn {

struct Layout {
  std::int64_t lanes = kBlockLanes;  // samples side by side: 16 or 1
  std::int64_t samples = 0, channels = 0, height = 1, width = 1;
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;  // halo
  std::int64_t gap = 0;                                   // lines of lanes between channels
  // Where images are folded: so many bands of `height` rows each, side by side in one block.
  std::int64_t bands = 0, image_height = 0;

  bool is_folded() const { return bands > 0; }
  std::int64_t blocks() const { return is_folded() ? 1 : (samples + lanes - 1) / lanes; }
  std::int64_t pixels() const { return height * width; }
  std::int64_t features() const { return channels * pixels(); }
  bool is_array() const { return lanes == 1; }
  bool has_halo() const { return top + bottom + left + right > 0; }
  bool dense() const { return !has_halo() && gap == 0; }
  // In elements:
  std::int64_t row() const { return (left + width + right) * lanes; }
  std::int64_t plane() const { return (top + height + bottom) * row() + gap * lanes; }
  std::int64_t block() const { return channels * plane(); }
  std::int64_t size() const { return blocks() * block(); }
  std::int64_t at(std::int64_t h, std::int64_t w) const {
    return (top + h) * row() + (left + w) * lanes;
  }
};

// Channels, and rows of images, a power of two apart would all lie in the same few lines of a
// cache.
inline void spread_channels(Layout& layout) {
  layout.gap =
      layout.channels > 1 && layout.pixels() >= 16 && layout.plane() / kBlockLanes % 2 == 0 ? 1 : 0;
}
inline void spread(Layout& layout) {
  if (layout.is_array()) return;
  constexpr std::int64_t kAlike = 8;
  if (layout.has_halo() && (layout.left + layout.width + layout.right) % kAlike == 0)
    ++layout.right;
  spread_channels(layout);
}

// Of an array (N, ...): channels and pixels where it has four axes, otherwise channels alone.
inline Layout layout_of(const Shape& shape, std::int64_t lanes) {
  Layout layout;
  layout.lanes = lanes;
  layout.samples = shape[0];
  layout.channels = 1;
  if (shape.size() == 4) {
    layout.channels = shape[1];
    layout.height = shape[2];
    layout.width = shape[3];
  } else {
    for (std::size_t axis = 1; axis < shape.size(); ++axis) layout.channels *= shape[axis];
  }
  return layout;
}

}  // namespace pynn
