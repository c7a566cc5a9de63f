// The stages of a plan, made of the nodes of its graph.
#pragma once

#include "plan/segments.h"

namespace pynn {

// What a plan has for a node.
template <typename T>
struct NodeStage {
  std::unique_ptr<Stage<T>> stage;  // null: foreign, or fused into another
  bool has_backward = false;
  std::vector<GradientMode> gradients;  // how backward writes those of its inputs
};

template <typename T>
std::unique_ptr<Stage<T>> make_stage(Builder<T>& builder, const PlanNode& node,
                                     const std::vector<GradientMode>& gradients);

// They add their working memory to the arena, and their work to that of the segments.
template <typename T>
std::vector<NodeStage<T>> make_stages(const PlanGraph& graph, std::vector<Segment>& segments,
                                      std::vector<Value>& values, Arena& arena);

}  // namespace pynn
