// NumPy's broadcasting rule, and the walks that add and mul need.
#pragma once

#include "kernels/broadcast.h"
#include "runtime/errors.h"

namespace pynn {

Shape broadcast_shape(const Shape& a, const Shape& b);  // ShapeError where they do not fit

// The walk over y = a op b, with as few axes as possible.
BroadcastShape broadcast_walk(const Shape& a, const Shape& b);
// The sum of dy (y_shape) op b (which broadcasts to y_shape) down to `a`.
ReductionShape reduction_walk(const Shape& y_shape, const Shape& a, const Shape& b);

}  // namespace pynn
