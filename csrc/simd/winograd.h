// Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray, arXiv:1509.09308), of images in
// blocks of 16 samples:
//   Y = A' (sum over channels of (G g G') * (B' d B)) A
// where g are 3 x 3 weights, d 4 x 4 pixels and Y 2 x 2 pixels. The 16 points of the transforms are
// products of matrices (outputs, channels) (channels, tiles), each for itself.
#pragma once

#include <cstdint>

#include "simd/outer_product.h"

namespace pynn {

// Pixels that are read or written together: 4 x 4 or 2 x 2.
struct WinogradTile {
  std::int64_t at;       // its first pixel, in elements
  std::uint32_t inside;  // bit i * size + j: whether pixel (i, j) belongs to the image
};

// Tiles of all channels of an image, and where their points are: point p of tile t at
//   points[p * point + channel * points_row + t * 16] and the 15 after it.
struct WinogradTiles {
  std::int64_t channels, count;
  const WinogradTile* tiles;
  std::int64_t plane, row;  // of the image
  std::int64_t point, points_row;
};

// What becomes of y, as in OuterProduct.
template <typename T>
struct WinogradResult {
  const T* bias;
  bool accumulate, relu;
  const T* mask;
};

template <typename T>
struct WinogradKernels {
  // points = B' d B; pixels outside the image are 0.
  void (*input)(const WinogradTiles& s, const T* x, T* points);
  // y = A' points A.
  void (*output)(const WinogradTiles& s, const T* points, const WinogradResult<T>& result, T* y);
  // points[p * point + k * width + r] = G g G' of weights g (depth, 3, 3, width), which are turned
  // by 180 degrees first where so wanted. Up to a vector behind g may be read, and behind each
  // point written.
  void (*weights)(std::int64_t width, std::int64_t depth, bool turned, const T* g,
                  std::int64_t point, T* points);
};

}  // namespace pynn
