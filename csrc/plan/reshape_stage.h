#pragma once

#include "plan/stage.h"

namespace pynn {

// The same features of each sample in the same order.
struct ReshapeNode {
  int x = -1, y = -1;
};

template <typename T>
std::unique_ptr<Stage<T>> make_reshape_stage(Builder<T>& builder, const ReshapeNode& node,
                                             GradientMode dx);

}  // namespace pynn
