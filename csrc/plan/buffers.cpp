#include "plan/buffers.h"

namespace pynn {

Arena add_buffers(const PlanGraph& graph, const std::vector<Segment>& segments,
                  std::int64_t element_bytes, std::vector<Value>& values) {
  Arena arena;
  const int count = static_cast<int>(segments.size());
  const auto value = [&](int number) -> Value& { return values[static_cast<std::size_t>(number)]; };
  const auto add = [&](const Layout& layout, int time) {
    return arena.add_blocks(layout.blocks(), layout.block() * element_bytes, time, time);
  };
  // A halo is cleared once: its memory is nobody else's.
  const auto add_data = [&](Value& each, int time) {
    each.data = add(each.layout, time);
    if (each.layout.has_halo()) arena.keep_apart(each.data);
  };
  for (const int input : graph.inputs)
    if (value(input).in_blocks) add_data(value(input), -1);
  for (int time = 0; time < count; ++time) {
    const Segment& segment = segments[static_cast<std::size_t>(time)];
    for (std::size_t i = segment.begin; i < segment.end; ++i) {
      const PlanNode& node = graph.nodes[i];
      if (std::holds_alternative<FusedNode>(node)) continue;
      const Ports p = ports(node);
      Value& y = value(p.output);
      for (const int input : p.inputs) {
        if (input < 0) continue;
        Value& x = value(input);
        if (x.data >= 0) arena.extend(x.data, time);
        if (y.has_gradient() && x.needed) ++x.gradients_read;
      }
      const auto* const reshape = std::get_if<ReshapeNode>(&node);
      if (reshape && value(reshape->x).layout.dense() && y.layout.dense())
        y.data = value(reshape->x).data;
      else if (y.in_blocks)
        add_data(y, time);
    }
  }
  Value& output = value(graph.output);
  if (output.data >= 0) arena.extend(output.data, count);
  if (!graph.trains()) return arena;

  // Backward, the output's gradient is the first that is written.
  const auto add_gradient = [&](Value& each, int time) {
    if (each.gradient < 0)
      each.gradient = add(each.gradient_layout, time);
    else
      arena.extend(each.gradient, time);
  };
  if (!output.stored) add_gradient(output, count);
  for (int number = count - 1; number >= 0; --number) {
    const Segment& segment = segments[static_cast<std::size_t>(number)];
    const int time = 2 * count - number;
    for (std::size_t i = segment.end; i-- > segment.begin;) {
      const PlanNode& node = graph.nodes[i];
      const Ports p = ports(node);
      Value& y = value(p.output);
      if (!y.has_gradient()) continue;
      add_gradient(y, time);
      const bool in_place = std::holds_alternative<ReshapeNode>(node) ||
                            std::holds_alternative<PointwiseNode>(node) ||
                            std::holds_alternative<DropoutNode>(node);
      for (const int input : p.inputs) {
        if (input < 0) continue;
        Value& x = value(input);
        if (x.stored || !x.needed) continue;
        if (in_place && x.gradients_read == 1 && x.gradient < 0) x.gradient = y.gradient;
        add_gradient(x, time);
        if (x.input) arena.extend(x.gradient, 2 * count + 1);
      }
    }
  }
  const Segment& last = segments.back();
  if (!last.turns) return arena;
  // Some blocks are on their way back while others still go forward.
  for (std::size_t i = last.begin; i < last.end; ++i) {
    const Ports p = ports(graph.nodes[i]);
    std::vector<int> touched = p.inputs;
    touched.push_back(p.output);
    for (const int number : touched) {
      if (number < 0) continue;
      const Value& each = value(number);
      if (each.data >= 0) arena.extend(each.data, count + 1);
      if (each.gradient >= 0) arena.extend(each.gradient, count - 1);
    }
  }
  return arena;
}

}  // namespace pynn
