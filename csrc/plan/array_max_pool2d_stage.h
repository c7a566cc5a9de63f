#pragma once

#include "plan/max_pool2d_stage.h"

namespace pynn {

// A pool of few samples, on arrays (N, C, H, W).
template <typename T>
std::unique_ptr<Stage<T>> make_array_max_pool2d_stage(Builder<T>& builder,
                                                      const MaxPool2dNode& node, GradientMode dx);

}  // namespace pynn
