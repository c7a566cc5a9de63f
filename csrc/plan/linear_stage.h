#pragma once

#include "plan/stage.h"

namespace pynn {

struct LinearNode {
  int x = -1, w = -1, b = -1, y = -1;
  bool relu = false;  // y = max(x w^T + b, 0)
};

template <typename T>
std::unique_ptr<Stage<T>> make_linear_stage(Builder<T>& builder, const LinearNode& node,
                                            GradientMode dx, bool dw_again, bool db_again);

}  // namespace pynn
