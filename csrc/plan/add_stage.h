#pragma once

#include "plan/stage.h"

namespace pynn {

// y = a + b, of the same shape.
struct AddNode {
  int a = -1, b = -1, y = -1;
};

template <typename T>
std::unique_ptr<Stage<T>> make_add_stage(Builder<T>& builder, const AddNode& node, GradientMode da,
                                         GradientMode db);

}  // namespace pynn
