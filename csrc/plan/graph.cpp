#include "plan/graph.h"

#include <algorithm>

#include "kernels/cross_entropy.h"

namespace pynn {

Ports ports(const PlanNode& node) {
  return std::visit(Overloaded{
                        [](const ForeignNode& n) { return Ports{n.inputs, n.y}; },
                        [](const FusedNode& n) { return Ports{{}, n.y}; },
                        [](const Conv2dNode& n) { return Ports{{n.x, n.w, n.b}, n.y}; },
                        [](const LinearNode& n) { return Ports{{n.x, n.w, n.b}, n.y}; },
                        [](const BiasNode& n) { return Ports{{n.x, n.b}, n.y}; },
                        [](const AddNode& n) { return Ports{{n.a, n.b}, n.y}; },
                        [](const LibraryNode& n) { return Ports{n.inputs, n.y}; },
                        [](const auto& n) { return Ports{{n.x}, n.y}; },
                    },
                    node);
}

void fuse(PlanGraph& graph) {
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
    const auto absorb = [&node, y](auto* product) {
      if (!product) return;
      product->y = y;
      product->relu = true;
      node = FusedNode{y};
    };
    PlanNode& product = graph.nodes[static_cast<std::size_t>(before)];
    absorb(std::get_if<Conv2dNode>(&product));
    absorb(std::get_if<LinearNode>(&product));
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
