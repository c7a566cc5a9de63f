#pragma once

#include "plan/linear_stage.h"

namespace pynn {

// A dense layer of few samples, on arrays (N, ...).
template <typename T>
std::unique_ptr<Stage<T>> make_array_linear_stage(Builder<T>& builder, const LinearNode& node,
                                                  GradientMode dx, bool dw_again, bool db_again);

}  // namespace pynn
