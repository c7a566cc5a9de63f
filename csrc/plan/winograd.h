// A convolution of 3 x 3 by Winograd's minimal filtering, F(2 x 2, 3 x 3): 16 products of matrices
// of the transformed weights and images, with 4 multiply-adds for each pixel instead of 9.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conv2d.h"
#include "plan/stage.h"
#include "simd/winograd.h"

namespace pynn {

enum class Direction { forward, backward };  // from x to y, or from dy to dx

// Whether convolutions that it suits are computed in this way: not unless asked for, since what is
// not finite spreads, and rounding errors of large pixels as well, to the others in their tiles. Of
// the process; plans that are there stay as they are.
bool winograd_enabled();
void enable_winograd(bool enabled);

// Whether it is possible, and worth it.
bool suits_winograd(const Conv2dShape& shape, Direction direction);

template <typename T>
class Winograd {
 public:
  Winograd(const Conv2dShape& shape, const Layout& from, const Layout& to, Direction direction);

  std::int64_t flops() const;  // of a block
  std::int64_t weight_elements() const;

  // The points of w (O, C / groups, 3, 3).
  void transform(const T* w, T* points) const;
  // Images of these blocks, with the points of the weights; result.mask is addressed as `to`.
  void run(BlockRange blocks, const T* points, const T* from, const WinogradResult<T>& result,
           T* to) const;

 private:
  std::int64_t rows() const;
  std::int64_t depth() const;
  std::int64_t panels() const { return (rows() + panel_rows_ - 1) / panel_rows_; }
  std::int64_t group_point() const { return panels() * panel_rows_ * depth(); }
  std::int64_t weight_point() const { return shape_.groups * group_point(); }

  const Conv2dShape shape_;
  const Layout from_, to_;
  const Direction direction_;
  std::int64_t panel_rows_ = 1;   // of transformed weights, which lie in panels
  std::int64_t strips_ = 1;       // runs of tiles, of at most
  std::int64_t strip_tiles_ = 1;  // so many
  std::vector<WinogradTile> read_, written_;
  std::vector<std::int32_t> a_offsets_, b_offsets_;
  std::vector<std::int64_t> columns_;
};

}  // namespace pynn
