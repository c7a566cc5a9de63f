#pragma once

#include <optional>

#include "kernels/conv2d.h"
#include "plan/max_pool2d_stage.h"
#include "plan/weighted_layer.h"

namespace pynn {

struct Conv2dNode {
  Conv2dShape shape;
  int x = -1, w = -1, b = -1, y = -1;
  bool relu = false;                                 // y = max(convolution, 0)
  std::optional<MaxPool2dNode> pool = std::nullopt;  // of y, which then is in no buffer
};

// The zeros that the convolution reads around its image.
void add_halo(const Conv2dShape& shape, Layout& x);
// Whether they are on no side much wider than the image: blocks would otherwise be mostly zeros.
bool has_small_halo(const Conv2dShape& shape);
// Whether the convolution of blocks of samples had better do such a pool as well.
bool can_pool(const Conv2dShape& shape, const Window& pool, bool winograd,
              std::int64_t element_bytes);

template <typename T>
std::unique_ptr<Stage<T>> make_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                            const LayerGradients& gradients);

}  // namespace pynn
