#include "plan/values.h"

#include <algorithm>
#include <utility>

#include "plan/graph.h"
#include "threaded/conv2d.h"

namespace pynn {
namespace {

Value& at(std::vector<Value>& values, int number) {
  return values[static_cast<std::size_t>(number)];
}

// Whether a node reads its input as the caller gave it.
bool reads_as_given(const PlanNode& node, std::vector<Value>& values, std::int64_t element_bytes) {
  const auto given_array = [&](int number) {
    const Value& x = at(values, number);
    return x.layout.is_array() && x.rows >= 0;
  };
  return std::visit(Overloaded{
                        [&](const LinearNode& n) {
                          return given_array(n.x) ||
                                 reads_rows(at(values, n.x), at(values, n.w).shape, element_bytes);
                        },
                        [&](const Conv2dNode& n) { return given_array(n.x); },
                        [&](const MaxPool2dNode& n) { return given_array(n.x); },
                        [](const auto&) { return false; },
                    },
                    node);
}

// Inputs, in their own shape or another, that layers read as the caller gave them.
void find_rows(const PlanGraph& graph, std::int64_t element_bytes, std::vector<Value>& values) {
  for (const int input : graph.inputs) at(values, input).rows = input;
  for (const PlanNode& node : graph.nodes)
    if (const auto* reshape = std::get_if<ReshapeNode>(&node))
      at(values, reshape->y).rows = at(values, reshape->x).rows;
  for (Value& value : values) value.in_blocks = value.rows < 0 || value.is_output;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const PlanNode& node = graph.nodes[i];
    const Ports p = ports(node);
    const bool reads_blocks = std::holds_alternative<ReshapeNode>(node)
                                  ? at(values, p.output).in_blocks
                                  : !reads_as_given(node, values, element_bytes);
    for (const int input : p.inputs)
      if (input >= 0 && reads_blocks) at(values, input).in_blocks = true;
  }
}

// What lies on the way from the output back to something whose gradient is wanted.
void find_reached(const PlanGraph& graph, std::vector<Value>& values) {
  if (!graph.trains()) return;
  at(values, graph.output).reached = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Ports p = ports(graph.nodes[i]);
    if (!at(values, p.output).has_gradient()) continue;
    for (const int input : p.inputs)
      if (input >= 0) at(values, input).reached = true;
  }
}

// Values that some stage walks as one run of features.
std::vector<char> find_dense(const PlanGraph& graph) {
  std::vector<char> dense(graph.shapes.size(), 0);
  const auto is_dense = [&](int value) -> char& { return dense[static_cast<std::size_t>(value)]; };
  for (bool changed = true; changed;) {
    changed = false;
    for (const PlanNode& node : graph.nodes) {
      const Ports p = ports(node);
      const auto* const of_library = std::get_if<LibraryNode>(&node);
      const bool alike = std::holds_alternative<PointwiseNode>(node) ||
                         std::holds_alternative<DropoutNode>(node) ||
                         (of_library && of_library->on_blocks);
      const bool flat = std::holds_alternative<ReshapeNode>(node) ||
                        std::holds_alternative<BiasNode>(node) ||
                        std::holds_alternative<AddNode>(node);
      if (!alike && !flat) continue;
      std::vector<int> both = p.inputs;
      both.push_back(p.output);
      const bool any = flat || std::any_of(both.begin(), both.end(), [&](int value) {
                         return value >= 0 && is_dense(value);
                       });
      for (const int value : both)
        if (any && value >= 0 && !is_dense(value)) {
          is_dense(value) = 1;
          changed = true;
        }
    }
  }
  return dense;
}

// Halos, and gaps between channels.
void spread_out(const PlanGraph& graph, std::vector<Value>& values) {
  for (const PlanNode& node : graph.nodes)
    if (const auto* conv = std::get_if<Conv2dNode>(&node)) {
      Layout& x = at(values, conv->x).layout;
      if (!x.is_array()) add_halo(conv->shape, x);
    }
  const std::vector<char> dense = find_dense(graph);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].stored || dense[i]) continue;
    spread(values[i].layout);
    spread(values[i].gradient_layout);
  }
}

// What is read of the input, and what lies nowhere but between the nodes of a fold.
void limit_to_full_blocks(const Fold& fold, std::vector<Value>& values) {
  for (std::size_t i = 0; i < fold.rows.size(); ++i) {
    if (fold.rows[i] == 0 || static_cast<int>(i) == fold.y) continue;
    values[i].layout.samples = fold.blocks * kBlockLanes;
    if (static_cast<int>(i) != fold.x) values[i].gradient_layout.samples = values[i].layout.samples;
  }
}

// How much longer than a lane of blocks a sample takes in arrays, as measured. There, it is pixels
// that fill the vectors, and few channels are slow backward; the first convolution mostly passes no
// gradient to its input.
double slowness_in_arrays(const Conv2dShape& s, bool trains, bool first) {
  const Window& w = s.window;
  if (w.KH * w.KW == 1) return 1.1;
  constexpr double kForward = 1.5;
  if (!trains) return kForward;
  const std::int64_t channels = first ? s.O : std::min(s.C, s.O);
  const std::int64_t lanes = (w.OW + kBlockLanes - 1) / kBlockLanes * kBlockLanes;
  const double slowness = (1.1 + 12.0 / static_cast<double>(channels)) *
                          static_cast<double>(lanes) / static_cast<double>(w.OW);
  return std::max(slowness, kForward);
}

}  // namespace

// It must not depend on which gradients are wanted, where any are: bits would.
bool in_blocks(const PlanGraph& graph) {
  constexpr std::int64_t kFewest = 3;  // of fewer, blocks would take too much memory
  const std::int64_t samples = graph.shapes[static_cast<std::size_t>(graph.inputs[0])][0];
  if (samples < kFewest || samples >= kBlockLanes) return samples >= kBlockLanes;
  double in_arrays = 0, in_blocks = 0;
  bool first = true;
  for (const PlanNode& node : graph.nodes) {
    std::int64_t work = 0;
    double slowness = 1;
    if (const auto* const linear = std::get_if<LinearNode>(&node)) {
      work = element_count(graph.shapes[static_cast<std::size_t>(linear->w)]);
    } else if (const auto* const conv = std::get_if<Conv2dNode>(&node)) {
      const Conv2dShape& s = conv->shape;
      work = threaded::work_of(s) / (2 * s.N);
      slowness = slowness_in_arrays(s, graph.trains(), std::exchange(first, false));
    }
    in_arrays += static_cast<double>(work * samples) * slowness;
    in_blocks += static_cast<double>(work * kBlockLanes);
  }
  return in_arrays > in_blocks;
}

std::vector<Value> values_of(const PlanGraph& graph, std::int64_t element_bytes) {
  const std::int64_t lanes = in_blocks(graph) ? kBlockLanes : 1;
  std::vector<Value> values(graph.shapes.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    Value& value = values[i];
    value.shape = graph.shapes[i];
    value.stored = graph.stored[i];
    value.needed = graph.trains() && graph.needed[i];
    if (!value.stored) value.layout = value.gradient_layout = layout_of(value.shape, lanes);
  }
  for (const int input : graph.inputs) at(values, input).input = true;
  at(values, graph.output).is_output = true;
  const auto mark = [&](const auto* product) {
    if (product && product->relu) at(values, product->y).relu = true;
  };
  for (const PlanNode& node : graph.nodes) {
    mark(std::get_if<Conv2dNode>(&node));
    mark(std::get_if<LinearNode>(&node));
  }
  find_rows(graph, element_bytes, values);
  find_reached(graph, values);
  spread_out(graph, values);
  limit_to_full_blocks(graph.fold, values);
  return values;
}

}  // namespace pynn
