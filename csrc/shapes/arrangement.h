// Shape rules of the operators that only move values: flatten, reshape, concat, pad2d; and of an
// axis given by number.
#pragma once

#include "runtime/errors.h"

namespace pynn {

// The axis counted from 0; ShapeError where shape has no such axis.
std::int64_t checked_axis(std::int64_t axis, const Shape& shape);

// Shape seen as (outer, axis, inner).
struct AxisSplit {
  std::int64_t outer, axis, inner;
};
AxisSplit split_at(const Shape& shape, std::int64_t axis);

struct Sides {
  std::int64_t top, bottom, left, right;
};

Shape flatten_shape(const Shape& x, std::int64_t start_axis);
Shape reshape_shape(const Shape& x, const Shape& shape);
Shape concat_shape(const std::vector<Shape>& shapes, std::int64_t axis);
Shape pad2d_shape(const Shape& x, const Sides& padding);
Shape pad2d_inverse_shape(const Shape& y, const Sides& padding);  // of x, from that of y

}  // namespace pynn
