#pragma once

#include "plan/stage.h"

namespace pynn {

enum class Pointwise { relu, leaky_relu, sigmoid, tanh };

struct PointwiseNode {
  Pointwise kind = Pointwise::relu;
  double negative_slope = 0;
  int x = -1, y = -1;
};

template <typename T>
std::unique_ptr<Stage<T>> make_pointwise_stage(Builder<T>& builder, const PointwiseNode& node,
                                               GradientMode dx);

}  // namespace pynn
