#include "shapes/window.h"

#include <algorithm>
#include <limits>

#include "shapes/dense.h"

namespace pynn {
namespace {

// No size, stride or padding may be larger, so that no index overflows.
constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();

std::string pair_text(std::int64_t rows, std::int64_t columns) {
  return to_string(Shape{rows, columns});
}

void require_image(const Shape& x) {
  check_sizes("x", x);
  if (x.size() != 4)
    throw ShapeError(message("expected an input of shape (N, C, H, W), got shape ", x));
  if (x[2] > kLargest || x[3] > kLargest) throw ShapeError(message("x is too large: ", x));
}

void require_range(const char* name, const Pair& pair) {
  for (const std::int64_t value : pair)
    if (value < 1 || value > kLargest)
      throw ShapeError(message(name, " must be at least 1",
                               value > kLargest ? " and below 2**31" : "", ", got ",
                               pair_text(pair[0], pair[1])));
}

// Padding of one axis, before and after; extent is the size of the dilated kernel.
std::array<std::int64_t, 2> resolve(const Padding& padding, int axis, std::int64_t size,
                                    std::int64_t stride, std::int64_t extent) {
  if (padding.kind == Padding::Kind::full) return {extent - 1, extent - 1};
  if (padding.kind == Padding::Kind::same) {
    const std::int64_t positions = (size + stride - 1) / stride;
    const std::int64_t total = std::max<std::int64_t>((positions - 1) * stride + extent - size, 0);
    return {total / 2, total - total / 2};
  }
  return {padding.sides[2 * axis], padding.sides[2 * axis + 1]};
}

// Everything but the number of positions.
Window place(const Shape& x, Pair kernel, Pair stride, const Padding& padding, Pair dilation) {
  require_range("kernel_size", kernel);
  require_range("stride", stride);
  require_range("dilation", dilation);
  Window w;
  w.H = x[2], w.W = x[3];
  w.KH = kernel[0], w.KW = kernel[1];
  w.stride_h = stride[0], w.stride_w = stride[1];
  w.dilation_h = dilation[0], w.dilation_w = dilation[1];
  const std::int64_t extent_h = w.dilation_h * (w.KH - 1) + 1,
                     extent_w = w.dilation_w * (w.KW - 1) + 1;
  if (extent_h > kLargest || extent_w > kLargest)
    throw ShapeError(message("kernel ", pair_text(w.KH, w.KW), " with dilation ",
                             pair_text(w.dilation_h, w.dilation_w), " is too large"));
  for (const std::int64_t side : padding.sides)
    if (side > kLargest) throw ShapeError(message("padding must be below 2**31, got ", side));
  const auto rows = resolve(padding, 0, w.H, w.stride_h, extent_h);
  const auto columns = resolve(padding, 1, w.W, w.stride_w, extent_w);
  w.top = rows[0], w.bottom = rows[1];
  w.left = columns[0], w.right = columns[1];
  const std::int64_t spare_h = w.H + w.top + w.bottom - extent_h;
  const std::int64_t spare_w = w.W + w.left + w.right - extent_w;
  const bool nothing_to_see = padding.kind == Padding::Kind::same && (w.H == 0 || w.W == 0);
  if ((spare_h < 0 || spare_w < 0) && !nothing_to_see)
    throw ShapeError(message("kernel ", pair_text(w.KH, w.KW), " with dilation ",
                             pair_text(w.dilation_h, w.dilation_w),
                             " does not fit the padded input ",
                             pair_text(w.H + w.top + w.bottom, w.W + w.left + w.right)));
  w.OH = spare_h < 0 ? 0 : spare_h / w.stride_h + 1;
  w.OW = spare_w < 0 ? 0 : spare_w / w.stride_w + 1;
  return w;
}

// Positions of a pool in ceil mode: the last may hang over the end, but must start before it.
std::int64_t ceil_positions(std::int64_t size, std::int64_t before, std::int64_t after,
                            std::int64_t kernel, std::int64_t stride) {
  const std::int64_t count = (size + before + after - kernel + stride - 1) / stride + 1;
  return (count - 1) * stride >= size + before ? count - 1 : count;
}

}  // namespace

Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b, Pair stride,
                         const Padding& padding, Pair dilation, std::int64_t groups) {
  require_image(x);
  check_sizes("w", w);
  if (w.size() != 4) throw ShapeError(message("w must have shape (O, C/groups, KH, KW), got ", w));
  if (groups < 1) throw ShapeError(message("groups must be at least 1, got ", groups));
  if (w[0] % groups != 0)
    throw ShapeError(message("groups=", groups, " does not divide ", w[0], " output channels"));
  std::int64_t channels;
  if (__builtin_mul_overflow(w[1], groups, &channels))
    throw ShapeError(message("groups=", groups, " is too large"));
  if (x[1] != channels)
    throw ShapeError(
        message("expected ", channels, " input channels, got ", x[1], " (input shape ", x, ")"));
  if (b && *b != Shape{w[0]})
    throw ShapeError(message("b must have shape ", Shape{w[0]}, ", got ", *b));
  Conv2dShape s;
  s.N = x[0], s.C = x[1], s.O = w[0], s.groups = groups;
  s.window = place(x, {w[2], w[3]}, stride, padding, dilation);
  check_sizes("the output", output_shape(s));
  return s;
}

Shape output_shape(const Conv2dShape& s) { return {s.N, s.O, s.window.OH, s.window.OW}; }

Window pool2d_window(const Shape& x, Pair kernel_size, Pair stride, const Padding& padding,
                     bool ceil_mode) {
  require_image(x);
  if (x[2] == 0 || x[3] == 0)
    throw ShapeError(message("a pool needs at least one pixel, got an input of shape ", x));
  Window w = place(x, kernel_size, stride, padding, {1, 1});
  for (const auto& [side, kernel] :
       {Pair{w.top, w.KH}, {w.bottom, w.KH}, {w.left, w.KW}, {w.right, w.KW}})
    if (side >= kernel)
      throw ShapeError(message("padding ", side, " must be smaller than the kernel ", kernel));
  if (ceil_mode) {
    w.OH = ceil_positions(w.H, w.top, w.bottom, w.KH, w.stride_h);
    w.OW = ceil_positions(w.W, w.left, w.right, w.KW, w.stride_w);
  }
  check_sizes("the output", output_shape(x, w));
  return w;
}

Shape output_shape(const Shape& x, const Window& w) { return {x[0], x[1], w.OH, w.OW}; }

Shape global_avg_pool2d_shape(const Shape& x) {
  require_image(x);
  if (x[2] == 0 || x[3] == 0)
    throw ShapeError(message("a pool needs at least one pixel, got an input of shape ", x));
  return {x[0], x[1], 1, 1};
}

}  // namespace pynn
