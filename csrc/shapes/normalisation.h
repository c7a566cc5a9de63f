// Shape rules of batch_norm, drop_block2d and softmax.
#pragma once

#include <optional>

#include "runtime/errors.h"

namespace pynn {

Shape batch_norm_shape(const Shape& x, const std::optional<Shape>& running_mean,
                       const std::optional<Shape>& running_var, const std::optional<Shape>& weight,
                       const std::optional<Shape>& bias, bool training);
Shape drop_block2d_shape(const Shape& x, double p, std::int64_t block_size);
Shape softmax_shape(const Shape& x, std::int64_t axis);

void check_probability(double p);  // std::invalid_argument unless 0 <= p <= 1

}  // namespace pynn
