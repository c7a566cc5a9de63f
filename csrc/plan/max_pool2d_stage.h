#pragma once

#include "kernels/window.h"
#include "plan/stage.h"

namespace pynn {

struct MaxPool2dNode {
  Window window;
  int x = -1, y = -1;
};

// Windows whose places fit a code of eight bits.
inline bool fits_codes(const Window& window) { return window.KH * window.KW <= 256; }

template <typename T>
std::unique_ptr<Stage<T>> make_max_pool2d_stage(Builder<T>& builder, const MaxPool2dNode& node,
                                                GradientMode dx);

}  // namespace pynn
