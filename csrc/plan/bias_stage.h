#pragma once

#include "plan/stage.h"

namespace pynn {

// y = x + b, one b for each feature of a sample.
struct BiasNode {
  int x = -1, b = -1, y = -1;
};

template <typename T>
std::unique_ptr<Stage<T>> make_bias_stage(Builder<T>& builder, const BiasNode& node,
                                          GradientMode dx, bool db_again);

}  // namespace pynn
