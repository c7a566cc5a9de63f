#include "plan/folded_block.h"

#include <algorithm>

#include "plan/convert.h"

namespace pynn {
namespace {

// The same node on bands.
PlanNode in_bands(PlanNode node, const Fold& fold) {
  const auto rows = [&](int value) { return fold.rows[static_cast<std::size_t>(value)]; };
  const auto resize = [&](Window& window, int x, int y) {
    window.H = rows(x);
    window.OH = rows(y);
  };
  if (auto* const conv = std::get_if<Conv2dNode>(&node)) {
    conv->shape.N = fold.samples;
    resize(conv->shape.window, conv->x, conv->y);
    if (conv->pool) resize(conv->pool->window, conv->y, conv->pool->y);
  } else if (auto* const pool = std::get_if<MaxPool2dNode>(&node)) {
    resize(pool->window, pool->x, pool->y);
  }
  return node;
}

std::vector<Value> values_in_bands(const PlanGraph& graph, const std::vector<Value>& values) {
  const Fold& fold = graph.fold;
  std::vector<Value> bands = values;
  const auto at = [&](int number) -> Value& { return bands[static_cast<std::size_t>(number)]; };
  for (std::size_t i = 0; i < bands.size(); ++i) {
    if (fold.rows[i] == 0) continue;
    Value& value = bands[i];
    value.layout = folded(value.layout, fold, fold.rows[i]);
    value.gradient_layout = folded(value.gradient_layout, fold, fold.rows[i]);
    value.data = value.gradient = -1;
    value.masked = value.masked && static_cast<int>(i) == fold.y;
  }
  for (std::size_t i = 0; i < fold.nodes; ++i) {
    if (const auto* const conv = std::get_if<Conv2dNode>(&graph.nodes[i])) {
      const Window& w = conv->shape.window;
      const std::int64_t below = std::max<std::int64_t>((w.KH - 1) * w.dilation_h - w.top, 0);
      Layout &x = at(conv->x).layout, &dy = at(conv->y).gradient_layout;
      x.top = w.top, x.bottom = below;
      if (at(conv->x).has_gradient() || w.top + 1 == w.KH) dy.top = below, dy.bottom = w.top;
    } else if (const auto* const pointwise = std::get_if<PointwiseNode>(&graph.nodes[i])) {
      at(pointwise->y).gradient_layout = at(pointwise->x).gradient_layout;  // walked side by side
    }
  }
  for (std::size_t i = 0; i < bands.size(); ++i) {
    if (fold.rows[i] == 0) continue;
    spread(bands[i].layout);
    spread_channels(bands[i].gradient_layout);
  }
  return bands;
}

}  // namespace

template <typename T>
FoldedBlock<T>::FoldedBlock(const PlanGraph& graph, const std::vector<Segment>& segments,
                            const std::vector<Value>& values,
                            const std::vector<NodeStage<T>>& stages, Arena& arena)
    : fold_(graph.fold),
      values_(values_in_bands(graph, values)),
      stages_(fold_.nodes),
      has_backward_(fold_.nodes) {
  const int count = static_cast<int>(segments.size()), last = 2 * count;
  const auto bytes = [](std::int64_t elements) {
    return elements * static_cast<std::int64_t>(sizeof(T));
  };
  std::int64_t most_features = 0;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& of_plan = values[i];
    Value& value = values_[i];
    if (fold_.rows[i] == 0) continue;
    most_features = std::max(most_features, of_plan.layout.features());
    if (of_plan.data >= 0) {
      value.data = arena.add(bytes(value.layout.size()), 0, 0);
      if (value.layout.has_halo()) arena.keep_apart(value.data);
    }
    if (of_plan.gradient >= 0)
      value.gradient = arena.add(bytes(value.gradient_layout.size()), last, last);
  }
  const auto at = [&](int number) -> const Value& {
    return values[static_cast<std::size_t>(number)];
  };
  arena.extend(values_[static_cast<std::size_t>(fold_.x)].data, -1);
  images_ = arena.add(bytes(fold_.samples * most_features), 0, 0);
  y_ = block_of(at(fold_.y).layout, at(fold_.y).data);
  if (graph.trains()) {
    gradient_images_ = arena.add(bytes(fold_.samples * most_features), last, last);
    dx_ = block_of(at(fold_.x).gradient_layout, at(fold_.x).gradient);
    dy_ = block_of(at(fold_.y).gradient_layout, at(fold_.y).gradient);
  }
  for (std::size_t i = fold_.nodes; i-- > 0;) {
    if (!stages[i].stage || std::holds_alternative<ReshapeNode>(graph.nodes[i])) continue;
    Builder<T> builder{values_, arena, 0, count, stages[i].has_backward, false};
    builder.blocks = 1;
    builder.unfolded = stages[i].stage.get();
    stages_[i] = make_stage(builder, in_bands(graph.nodes[i], fold_), stages[i].gradients);
    has_backward_[i] = stages[i].has_backward;
  }
  for (const PlanNode& node : graph.nodes) outputs_.push_back(ports(node).output);
}

template <typename T>
typename FoldedBlock<T>::Block FoldedBlock<T>::block_of(const Layout& layout, int buffer) const {
  Block block{layout, buffer, fold_.blocks * layout.block()};
  block.layout.samples = fold_.samples;
  return block;
}

template <typename T>
std::int64_t FoldedBlock<T>::work() const {
  std::int64_t work = 1;
  for (const auto& stage : stages_)
    if (stage) work += stage->report().flops;
  return work;
}

template <typename T>
void FoldedBlock<T>::clear_halos(const Run<T>& run) const {
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (fold_.rows[i] > 0 && values_[i].data >= 0 && values_[i].layout.has_halo())
      clear_halo(values_[i].layout, run.at(values_[i].data));
}

template <typename T>
void FoldedBlock<T>::set_input(const Run<T>& run, const T* rows) const {
  const Value& x = values_[static_cast<std::size_t>(fold_.x)];
  const std::int64_t image = x.layout.channels * x.layout.image_height * x.layout.width;
  to_bands(x.layout, rows + fold_.blocks * kBlockLanes * image, run.at(x.data));
}

template <typename T>
void FoldedBlock<T>::forward(const Run<T>& run) const {
  for (std::size_t i = 0; i < fold_.nodes; ++i) {
    if (!stages_[i]) continue;
    stages_[i]->forward(run, {0, 1, 0});
    const Value& y = values_[static_cast<std::size_t>(outputs_[i])];
    if (outputs_[i] != fold_.y) join_bands(y.layout, run.at(y.data));
  }
  const Value& y = values_[static_cast<std::size_t>(fold_.y)];
  from_bands(y.layout, run.at(y.data), run.at(images_));
  to_blocks(y_.layout, run.at(images_), run.at(y_.buffer) + y_.offset);
}

template <typename T>
void FoldedBlock<T>::backward(const Run<T>& run) const {
  const Value &x = values_[static_cast<std::size_t>(fold_.x)],
              &y = values_[static_cast<std::size_t>(fold_.y)];
  from_blocks(dy_.layout, run.at(dy_.buffer) + dy_.offset, run.at(gradient_images_));
  to_bands(y.gradient_layout, run.at(gradient_images_), run.at(y.gradient));
  for (std::size_t i = fold_.nodes; i-- > 0;)
    if (stages_[i] && has_backward_[i]) stages_[i]->backward(run, {0, 1, 0});
  if (x.gradient < 0) return;
  from_bands(x.gradient_layout, run.at(x.gradient), run.at(gradient_images_));
  to_blocks(dx_.layout, run.at(gradient_images_), run.at(dx_.buffer) + dx_.offset);
}

template class FoldedBlock<float>;
template class FoldedBlock<double>;

}  // namespace pynn
