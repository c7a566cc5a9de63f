#include "shapes/broadcast.h"

#include <algorithm>

namespace pynn {
namespace {

// The size of `shape` along `axis` of a broadcast shape with `axes` axes; 1 where it lacks that
// axis.
std::int64_t size_along(const Shape& shape, std::size_t axes, std::size_t axis) {
  return axis + shape.size() < axes ? 1 : shape[axis + shape.size() - axes];
}

// Strides of a dense array of that shape over the axes of y; 0 along those that it is repeated
// along.
std::vector<std::int64_t> broadcast_strides(const Shape& shape, const Shape& y) {
  std::vector<std::int64_t> strides(y.size());
  std::int64_t stride = 1;
  for (std::size_t axis = y.size(); axis-- > 0;) {
    const std::int64_t size = size_along(shape, y.size(), axis);
    strides[axis] = size == 1 ? 0 : stride;
    stride *= size;
  }
  return strides;
}

// Adds an axis inside those there are, or makes the last one longer when both arrays run straight
// on from it.
void add_axis(Axes& axes, std::int64_t size, std::int64_t a, std::int64_t b) {
  if (size == 1) return;
  const int last = axes.count - 1;
  if (last >= 0 && axes.a[last] == a * size && axes.b[last] == b * size) {
    axes.size[last] *= size;
  } else {
    ++axes.count;
    axes.size[last + 1] = size;
  }
  axes.a[axes.count - 1] = a;
  axes.b[axes.count - 1] = b;
}

}  // namespace

Shape broadcast_shape(const Shape& a, const Shape& b) {
  Shape y(std::max(a.size(), b.size()));
  if (y.size() > kMaxAxes)
    throw ShapeError(message("arrays of more than ", kMaxAxes,
                             " dimensions are not broadcast, got shapes ", a, " and ", b));
  for (std::size_t axis = 0; axis < y.size(); ++axis) {
    const std::int64_t left = size_along(a, y.size(), axis), right = size_along(b, y.size(), axis);
    if (left != right && left != 1 && right != 1)
      throw ShapeError(message("shapes ", a, " and ", b, " do not broadcast"));
    y[axis] = left == 1 ? right : left;
  }
  return y;
}

BroadcastShape broadcast_walk(const Shape& a, const Shape& b) {
  const Shape y = broadcast_shape(a, b);
  const auto a_strides = broadcast_strides(a, y), b_strides = broadcast_strides(b, y);
  BroadcastShape walk;
  for (std::size_t axis = 0; axis < y.size(); ++axis)
    add_axis(walk.axes, y[axis], a_strides[axis], b_strides[axis]);
  if (walk.axes.count == 0) {  // a single value
    walk.axes.count = 1;
    walk.axes.size[0] = walk.axes.a[0] = walk.axes.b[0] = 1;
  }
  return walk;
}

ReductionShape reduction_walk(const Shape& y, const Shape& a, const Shape& b) {
  const auto y_strides = broadcast_strides(y, y), b_strides = broadcast_strides(b, y);
  ReductionShape walk;
  for (std::size_t axis = 0; axis < y.size(); ++axis) {
    const bool summed = size_along(a, y.size(), axis) == 1;
    add_axis(summed ? walk.summed : walk.kept, y[axis], y_strides[axis], b_strides[axis]);
  }
  return walk;
}

}  // namespace pynn
