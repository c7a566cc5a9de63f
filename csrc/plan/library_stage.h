#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/library_operator.h"
#include "plan/stage.h"

namespace pynn {

// An operator of a library: a pointwise one on the plan's own blocks, any other on arrays (N, ...).
struct LibraryNode {
  std::shared_ptr<const LibraryOperator> op;
  std::shared_ptr<const AttributeValues> attributes;
  std::string path;  // of the node in the model
  std::uint32_t ordinal = 0;
  std::vector<int> inputs;
  int y = -1;
  bool on_blocks = false;
};

// modes: how the gradient of each input is to be written, where it is not a parameter's; again: of
// a parameter, whether another node has written it before.
template <typename T>
std::unique_ptr<Stage<T>> make_library_stage(Builder<T>& builder, const LibraryNode& node,
                                             std::vector<GradientMode> modes);

}  // namespace pynn
