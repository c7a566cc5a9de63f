#pragma once

#include "kernels/conv2d.h"
#include "plan/weighted_layer.h"

namespace pynn {

struct Conv2dNode {
  Conv2dShape shape;
  int x = -1, w = -1, b = -1, y = -1;
  bool relu = false;  // y = max(convolution, 0)
};

// The zeros that the convolution reads around its image.
void add_halo(const Conv2dShape& shape, Layout& x);
// Whether they are on no side much wider than the image: blocks would otherwise be mostly zeros.
bool has_small_halo(const Conv2dShape& shape);

template <typename T>
std::unique_ptr<Stage<T>> make_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                            const LayerGradients& gradients);

}  // namespace pynn
