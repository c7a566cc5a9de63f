#include "shapes/arrangement.h"

namespace pynn {

std::int64_t checked_axis(std::int64_t axis, const Shape& shape) {
  const auto axes = static_cast<std::int64_t>(shape.size());
  if (axis < -axes || axis >= axes)
    throw ShapeError(message("axis ", axis, " is out of range for an array of shape ", shape));
  return axis < 0 ? axis + axes : axis;
}

AxisSplit split_at(const Shape& shape, std::int64_t axis) {
  AxisSplit split{1, shape[static_cast<std::size_t>(axis)], 1};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (static_cast<std::int64_t>(i) < axis) split.outer *= shape[i];
    if (static_cast<std::int64_t>(i) > axis) split.inner *= shape[i];
  }
  return split;
}

Shape flatten_shape(const Shape& x, std::int64_t start_axis) {
  if (start_axis < 1 || start_axis >= static_cast<std::int64_t>(x.size()))
    throw ShapeError(message(
        "flatten keeps the batch axis: start_axis must be 1 or more and an axis of the input, got ",
        start_axis, " for input shape ", x));
  Shape y(x.begin(), x.begin() + start_axis);
  y.push_back(element_count({x.begin() + start_axis, x.end()}));
  return y;
}

Shape reshape_shape(const Shape& x, const Shape& shape) {
  if (x.empty() || shape.empty() || (shape[0] != x[0] && shape[0] != -1))
    throw ShapeError(
        message("reshape may not touch the batch axis: input shape ", x, ", asked for ", shape));
  Shape y = shape;
  y[0] = x[0];
  std::int64_t sample = 1, known = 1;
  std::size_t unknown = 0, unknowns = 0;
  for (std::size_t axis = 1; axis < x.size(); ++axis) sample *= x[axis];
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] < -1)
      throw ShapeError(message("reshape to a negative size: asked for ", shape));
    if (shape[axis] == -1) {
      unknown = axis;
      ++unknowns;
    } else if (axis > 0 && __builtin_mul_overflow(known, shape[axis], &known)) {
      throw ShapeError(message("reshape to more values than memory holds: asked for ", shape));
    }
  }
  if (unknowns > 1)
    throw ShapeError(message("reshape can infer one size, not ", unknowns, ": asked for ", shape));
  if (unknown > 0 && known > 0 && sample % known == 0) {
    y[unknown] = sample / known;
    return y;
  }
  if (unknown > 0 || known != sample)
    throw ShapeError(message("reshape may not touch the batch axis: samples of ", sample,
                             " values do not fit ", shape, " (input shape ", x, ")"));
  return y;
}

Shape concat_shape(const std::vector<Shape>& shapes, std::int64_t axis) {
  if (shapes.empty()) throw ShapeError("concat needs at least one array");
  const auto along = static_cast<std::size_t>(checked_axis(axis, shapes[0]));
  Shape y = shapes[0];
  for (std::size_t i = 1; i < shapes.size(); ++i) {
    Shape other = shapes[i];
    if (other.size() == y.size()) other[along] = shapes[0][along];
    if (other != shapes[0])
      throw ShapeError(message("concat: array ", i, " of shape ", shapes[i],
                               " does not fit array 0 of shape ", shapes[0], " along axis ", axis));
    y[along] += shapes[i][along];
  }
  return y;
}

namespace {

void require_images(const Shape& x) {
  if (x.size() != 4)
    throw ShapeError(message("pad2d expects an input of shape (N, C, H, W), got shape ", x));
}

}  // namespace

Shape pad2d_shape(const Shape& x, const Sides& padding) {
  require_images(x);
  return {x[0], x[1], padding.top + x[2] + padding.bottom, padding.left + x[3] + padding.right};
}

Shape pad2d_inverse_shape(const Shape& y, const Sides& padding) {
  require_images(y);
  const Shape x{y[0], y[1], y[2] - padding.top - padding.bottom,
                y[3] - padding.left - padding.right};
  if (x[2] < 0 || x[3] < 0)
    throw ShapeError(message("dy of shape ", y, " is smaller than its padding (", padding.top, ", ",
                             padding.bottom, ", ", padding.left, ", ", padding.right, ")"));
  return x;
}

}  // namespace pynn
