#pragma once

#include "plan/stage.h"

namespace pynn {

struct DropoutNode {
  double p = 0;               // 0 ... 1
  std::uint32_t ordinal = 0;  // among the random nodes of the graph
  int x = -1, y = -1;
};

template <typename T>
std::unique_ptr<Stage<T>> make_dropout_stage(Builder<T>& builder, const DropoutNode& node,
                                             GradientMode dx);

}  // namespace pynn
