#include "shapes/normalisation.h"

#include "shapes/arrangement.h"

namespace pynn {
namespace {

void require_channels(const char* name, const std::optional<Shape>& shape, const Shape& x) {
  if (!shape || *shape == Shape{x[1]}) return;
  if (shape->size() != 1)
    throw ShapeError(message(name, " must have shape ", Shape{x[1]}, ", got ", *shape));
  throw ShapeError(message("batch_norm expects an input of ", shape->front(), " channels, as ",
                           name, " has them, got shape ", x));
}

}  // namespace

Shape batch_norm_shape(const Shape& x, const std::optional<Shape>& running_mean,
                       const std::optional<Shape>& running_var, const std::optional<Shape>& weight,
                       const std::optional<Shape>& bias, bool training) {
  if (x.size() != 2 && x.size() != 4)
    throw ShapeError(
        message("batch_norm expects an input of shape (N, C) or (N, C, H, W), got shape ", x));
  require_channels("running_mean", running_mean, x);
  require_channels("running_var", running_var, x);
  require_channels("weight", weight, x);
  require_channels("bias", bias, x);
  if (!training && (!running_mean || !running_var))
    throw std::invalid_argument("batch_norm needs running_mean and running_var outside training");
  const std::int64_t count = x[0] * (x.size() == 4 ? x[2] * x[3] : 1);
  if (training && x[0] > 0 && count < 2)
    throw ShapeError(message(
        "batch_norm needs more than one value per channel in training, got input shape ", x));
  return x;
}

Shape drop_block2d_shape(const Shape& x, double p, std::int64_t block_size) {
  if (x.size() != 4)
    throw ShapeError(message("drop_block2d expects an input of shape (N, C, H, W), got shape ", x));
  check_probability(p);
  if (block_size < 1)
    throw std::invalid_argument(message("block_size must be 1 or more, got ", block_size));
  return x;
}

Shape softmax_shape(const Shape& x, std::int64_t axis) {
  checked_axis(axis, x);
  return x;
}

void check_probability(double p) {
  if (!(p >= 0 && p <= 1))
    throw std::invalid_argument(message("p must be between 0 and 1, got ", p));
}

}  // namespace pynn
