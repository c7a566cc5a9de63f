#include "plan/stages.h"

#include "plan/array_conv2d_stage.h"
#include "plan/array_linear_stage.h"
#include "plan/array_max_pool2d_stage.h"

namespace pynn {

template <typename T>
std::unique_ptr<Stage<T>> make_stage(Builder<T>& builder, const PlanNode& node,
                                     const std::vector<GradientMode>& gradients) {
  const auto is_array = [&](int number) { return builder.value(number).layout.is_array(); };
  const auto again = [&](std::size_t input) { return gradients[input] == GradientMode::add; };
  const auto of_layer = [&] { return LayerGradients{gradients[0], again(1), again(2)}; };
  return std::visit(
      Overloaded{
          [&](const ForeignNode& n) -> std::unique_ptr<Stage<T>> {
            for (const int input : n.inputs)
              if (input >= 0) builder.keep(input);
            builder.keep(n.y);
            return nullptr;
          },
          [](const FusedNode&) -> std::unique_ptr<Stage<T>> { return nullptr; },
          [&](const Conv2dNode& n) {
            return is_array(n.x) ? make_array_conv2d_stage(builder, n, of_layer())
                                 : make_conv2d_stage(builder, n, of_layer());
          },
          [&](const LinearNode& n) {
            return is_array(n.x) ? make_array_linear_stage(builder, n, of_layer())
                                 : make_linear_stage(builder, n, of_layer());
          },
          [&](const PointwiseNode& n) { return make_pointwise_stage(builder, n, gradients[0]); },
          [&](const MaxPool2dNode& n) {
            return is_array(n.x) ? make_array_max_pool2d_stage(builder, n, gradients[0])
                                 : make_max_pool2d_stage(builder, n, gradients[0]);
          },
          [&](const DropoutNode& n) { return make_dropout_stage(builder, n, gradients[0]); },
          [&](const BiasNode& n) { return make_bias_stage(builder, n, gradients[0], again(1)); },
          [&](const AddNode& n) { return make_add_stage(builder, n, gradients[0], gradients[1]); },
          [&](const ReshapeNode& n) { return make_reshape_stage(builder, n, gradients[0]); },
          [&](const LibraryNode& n) { return make_library_stage(builder, n, gradients); },
      },
      node);
}

// In the order of the backward pass: the first that writes a gradient overwrites.
template <typename T>
std::vector<NodeStage<T>> make_stages(const PlanGraph& graph, std::vector<Segment>& segments,
                                      std::vector<Value>& values, Arena& arena) {
  std::vector<NodeStage<T>> stages(graph.nodes.size());
  std::vector<char> written(values.size(), 0);
  if (graph.trains()) written[static_cast<std::size_t>(graph.output)] = 1;
  const int count = static_cast<int>(segments.size());
  for (int number = count - 1; number >= 0; --number) {
    Segment& segment = segments[static_cast<std::size_t>(number)];
    for (std::size_t i = segment.end; i-- > segment.begin;) {
      const PlanNode& node = graph.nodes[i];
      const Ports p = ports(node);
      const Value& y = values[static_cast<std::size_t>(p.output)];
      auto& [stage, has_backward, gradients] = stages[i];
      has_backward = y.has_gradient();
      for (const int input : p.inputs) {
        const auto x = static_cast<std::size_t>(input);
        GradientMode mode = GradientMode::none;
        if (has_backward && input >= 0 && values[x].needed) {
          mode = written[x] ? GradientMode::add : GradientMode::overwrite;
          written[x] = 1;
        }
        gradients.push_back(mode);
      }
      Builder<T> builder{values, arena, number, count, has_backward, graph.winograd};
      builder.blocks = segment.blocks;
      builder.is_folded = i < graph.fold.nodes;
      stage = make_stage(builder, node, gradients);
      if (stage) segment.work += stage->report().flops / segment.blocks + 4 * y.layout.block();
    }
  }
  return stages;
}
template std::unique_ptr<Stage<float>> make_stage(Builder<float>&, const PlanNode&,
                                                  const std::vector<GradientMode>&);
template std::unique_ptr<Stage<double>> make_stage(Builder<double>&, const PlanNode&,
                                                   const std::vector<GradientMode>&);
template std::vector<NodeStage<float>> make_stages(const PlanGraph&, std::vector<Segment>&,
                                                   std::vector<Value>&, Arena&);
template std::vector<NodeStage<double>> make_stages(const PlanGraph&, std::vector<Segment>&,
                                                    std::vector<Value>&, Arena&);

}  // namespace pynn
