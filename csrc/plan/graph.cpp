#include "plan/graph.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "plan/values.h"

namespace pynn {

Ports ports(const PlanNode& node) {
  return std::visit(
      Overloaded{
          [](const ForeignNode& n) { return Ports{n.inputs, n.y}; },
          [](const FusedNode& n) { return Ports{{}, n.y}; },
          [](const Conv2dNode& n) { return Ports{{n.x, n.w, n.b}, n.pool ? n.pool->y : n.y}; },
          [](const LinearNode& n) { return Ports{{n.x, n.w, n.b}, n.y}; },
          [](const BiasNode& n) { return Ports{{n.x, n.b}, n.y}; },
          [](const AddNode& n) { return Ports{{n.a, n.b}, n.y}; },
          [](const LibraryNode& n) { return Ports{n.inputs, n.y}; },
          [](const auto& n) { return Ports{{n.x}, n.y}; },
      },
      node);
}

void fuse(PlanGraph& graph, std::int64_t element_bytes) {
  std::vector<int> uses(graph.shapes.size(), 0), producer(graph.shapes.size(), -1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Ports p = ports(graph.nodes[i]);
    for (const int input : p.inputs)
      if (input >= 0) ++uses[static_cast<std::size_t>(input)];
    producer[static_cast<std::size_t>(p.output)] = static_cast<int>(i);
  }
  ++uses[static_cast<std::size_t>(graph.output)];
  for (PlanNode& node : graph.nodes) {
    const auto* const relu = std::get_if<PointwiseNode>(&node);
    if (!relu || relu->kind != Pointwise::relu || uses[static_cast<std::size_t>(relu->x)] != 1)
      continue;
    const int before = producer[static_cast<std::size_t>(relu->x)], y = relu->y;
    if (before < 0) continue;
    const auto absorb = [&](auto* product) {
      if (!product) return;
      product->y = y;
      product->relu = true;
      producer[static_cast<std::size_t>(y)] = before;
      node = FusedNode{y};
    };
    PlanNode& product = graph.nodes[static_cast<std::size_t>(before)];
    absorb(std::get_if<Conv2dNode>(&product));
    absorb(std::get_if<LinearNode>(&product));
  }
  if (!in_blocks(graph)) return;
  for (PlanNode& node : graph.nodes) {
    const auto* const pool = std::get_if<MaxPool2dNode>(&node);
    if (!pool || uses[static_cast<std::size_t>(pool->x)] != 1) continue;
    const int before = producer[static_cast<std::size_t>(pool->x)];
    if (before < 0) continue;
    auto* const conv = std::get_if<Conv2dNode>(&graph.nodes[static_cast<std::size_t>(before)]);
    if (!conv || !can_pool(conv->shape, pool->window, graph.winograd, element_bytes)) continue;
    const int y = pool->y;
    conv->pool = *pool;
    node = FusedNode{y};
  }
}

bool takes_labels(const PlanGraph& graph) {
  const auto output = static_cast<std::size_t>(graph.output);
  const Shape& shape = graph.shapes[output];
  return graph.trains() && graph.needed[output] && shape.size() == 2 &&
         shape[1] < CrossEntropyTask<float>::kLong &&
         ports(graph.nodes.back()).output == graph.output &&
         std::none_of(
             graph.nodes.begin(), graph.nodes.end(),
             [](const PlanNode& node) { return std::holds_alternative<ForeignNode>(node); });
}

}  // namespace pynn
