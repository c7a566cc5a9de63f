// The geometry of convolutions and pools from what a user may write. Every function throws
// ShapeError where it does not fit.
#pragma once

#include <array>
#include <optional>

#include "kernels/conv2d.h"
#include "kernels/window.h"
#include "runtime/errors.h"

namespace pynn {

using Pair = std::array<std::int64_t, 2>;  // rows, columns

struct Padding {
  enum class Kind { sides, same, full };
  Kind kind = Kind::sides;
  std::array<std::int64_t, 4> sides{};  // top, bottom, left, right
};

// x (N, C, H, W), w (O, C/groups, KH, KW), b (O,) or absent.
Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b, Pair stride,
                         const Padding& padding, Pair dilation, std::int64_t groups);
Shape output_shape(const Conv2dShape& s);  // (N, O, OH, OW)

// A window that has a pixel of the image at each position. stride: absent means the size of the
// kernel.
Window pool2d_window(const Shape& x, Pair kernel_size, Pair stride, const Padding& padding,
                     bool ceil_mode);
Shape output_shape(const Shape& x, const Window& w);  // (N, C, OH, OW)

Shape global_avg_pool2d_shape(const Shape& x);

}  // namespace pynn
