#pragma once

#include "plan/conv2d_stage.h"

namespace pynn {

// A convolution of few samples, on arrays (N, C, H, W).
template <typename T>
std::unique_ptr<Stage<T>> make_array_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                                  GradientMode dx, bool dw_again, bool db_again);

}  // namespace pynn
