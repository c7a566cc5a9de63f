// The shape rules of matmul, linear and bias. Every function throws ShapeError where the shapes do
// not fit.
#pragma once

#include <optional>

#include "runtime/errors.h"

namespace pynn {

// Sizes are at least 0 and their product, leaving out zeros, is one that an array can have.
void check_sizes(const char* name, const Shape& shape);

Shape matmul_shape(const Shape& a, const Shape& b);
Shape linear_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b);
Shape bias_shape(const Shape& x, const Shape& b);

// The common shape of two lists of leading axes, as in NumPy. `whole` are the shapes that a message
// should show.
Shape broadcast_leading(const Shape& a, const Shape& b, const Shape& whole_a, const Shape& whole_b);

}  // namespace pynn
