#include "plan/segments.h"

namespace pynn {
namespace {

Sharing sharing(const PlanNode& node, const std::vector<Value>& values,
                std::int64_t element_bytes) {
  const auto value = [&](int number) -> const Value& {
    return values[static_cast<std::size_t>(number)];
  };
  const Layout& y = value(ports(node).output).layout;
  if (y.is_array()) return Sharing::parts;
  // All threads work on a single block anyway; in segments of its own, it takes less memory.
  const Sharing of_images = y.blocks() > 1 ? Sharing::blocks : Sharing::parts;
  return std::visit(
      Overloaded{
          [](const ForeignNode&) { return Sharing::parts; },
          [](const LibraryNode& n) { return n.on_blocks ? Sharing::any : Sharing::parts; },
          [&](const LinearNode& n) {
            const Value& w = value(n.w);
            return shares_samples(w.shape, element_bytes) &&
                           !shares_outputs(value(n.x), w, element_bytes)
                       ? Sharing::samples
                       : Sharing::parts;
          },
          [&](const Conv2dNode&) { return of_images; },
          [&](const MaxPool2dNode&) { return of_images; },
          [](const auto&) { return Sharing::any; },
      },
      node);
}

}  // namespace

std::vector<Segment> segments_of(const PlanGraph& graph, const std::vector<Value>& values,
                                 std::int64_t element_bytes) {
  std::vector<Segment> segments;
  const Shape& input = graph.shapes[static_cast<std::size_t>(graph.inputs[0])];
  const std::int64_t lanes = values[static_cast<std::size_t>(graph.inputs[0])].layout.lanes;
  const std::int64_t blocks = (input[0] + lanes - 1) / lanes;
  if (graph.fold.nodes > 0)
    segments.push_back({0, graph.fold.nodes, Sharing::blocks, false, 0, graph.fold.blocks});
  for (std::size_t i = graph.fold.nodes; i < graph.nodes.size(); ++i) {
    const Sharing own = sharing(graph.nodes[i], values, element_bytes);
    const Sharing last = i == graph.fold.nodes ? Sharing::parts : segments.back().sharing;
    const bool joins = last != Sharing::parts && own != Sharing::parts &&
                       (own == last || own == Sharing::any || last == Sharing::any);
    if (!joins) segments.push_back({i, i, own, false, 0, blocks});
    if (segments.back().sharing == Sharing::any) segments.back().sharing = own;
    segments.back().end = i + 1;
  }
  Segment& last = segments.back();
  last.turns =
      takes_labels(graph) && (last.sharing == Sharing::samples || last.sharing == Sharing::any);
  return segments;
}

bool passes_blocks(const std::vector<Segment>& segments, int time) {
  const int count = static_cast<int>(segments.size());
  const int segment = time < count ? time : 2 * count - time;
  return segment >= 0 && segment < count &&
         segments[static_cast<std::size_t>(segment)].sharing == Sharing::blocks;
}

}  // namespace pynn
