#include "cuda/plan/plan.h"

#include <algorithm>
#include <utility>

namespace pynn::cuda {

template <typename T>
Plan<T>::Plan(PlanGraph<T> graph) : graph_(std::move(graph)) {
  values_.resize(graph_.shapes.size());
  for (std::size_t i = 0; i < values_.size(); ++i) {
    values_[i].shape = graph_.shapes[i];
    values_[i].stored = graph_.stored[i];
    values_[i].needed = trains() && graph_.needed[i];
  }
  for (const int input : graph_.inputs) at(input).input = true;
  fuse();
  find_backward();
  find_written();
  hand_over_derivatives();
  lay_out();
  if (trains()) lay_out_backward();
  arena_.place([](int) { return false; }, 1);
}

// Activations and pools become part of the operation before them, where nothing else reads what is
// between.
template <typename T>
void Plan<T>::fuse() {
  std::vector<int> uses(values_.size(), 0);
  producer_.assign(values_.size(), -1);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    for (const int input : graph_.nodes[i].inputs)
      if (input >= 0) ++uses[static_cast<std::size_t>(input)];
    producer_[static_cast<std::size_t>(graph_.nodes[i].y)] = static_cast<int>(i);
  }
  ++uses[static_cast<std::size_t>(graph_.output)];
  for (Node<T>& node : graph_.nodes) {
    if (!node.operation) continue;
    const Activation* const activation = node.operation->as_activation();
    const Window* const pool = node.operation->as_pool();
    if (!activation && !pool) continue;
    const auto x = static_cast<std::size_t>(node.inputs[0]);
    if (uses[x] != 1 || producer_[x] < 0) continue;
    Node<T>& before = graph_.nodes[static_cast<std::size_t>(producer_[x])];
    if (!before.operation) continue;
    if (!(activation ? before.operation->absorb(*activation) : before.operation->absorb(*pool)))
      continue;
    before.y = node.y;
    producer_[static_cast<std::size_t>(node.y)] = producer_[x];
    node.operation = nullptr;
    node.fused = true;
    node.inputs.clear();
  }
}

// Nodes whose result leads to the output and depends on something whose gradient is wanted.
template <typename T>
void Plan<T>::find_backward() {
  has_backward_.assign(graph_.nodes.size(), 0);
  if (!trains()) return;
  at(graph_.output).reached = true;
  for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
    const Node<T>& node = graph_.nodes[i];
    if (node.fused || !at(node.y).needed || !at(node.y).reached) continue;
    has_backward_[i] = 1;
    for (const int input : node.inputs)
      if (input >= 0) at(input).reached = true;
  }
}

template <typename T>
void Plan<T>::find_written() {
  std::vector<char> written(values_.size(), 0);
  if (trains()) written[static_cast<std::size_t>(graph_.output)] = 1;
  written_before_.resize(graph_.nodes.size());
  for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
    for (const int input : graph_.nodes[i].inputs) {
      const bool wanted = has_backward_[i] && input >= 0 && at(input).needed;
      written_before_[i].push_back(wanted && written[static_cast<std::size_t>(input)]);
      if (!wanted) continue;
      written[static_cast<std::size_t>(input)] = 1;
      ++at(input).gradients_read;
    }
  }
}

// An activation's derivative is done by who writes the gradient of its result, where that is one
// node alone.
template <typename T>
void Plan<T>::hand_over_derivatives() {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    Node<T>& node = graph_.nodes[i];
    if (!has_backward_[i] || !node.operation || !node.operation->takes_input_activation()) continue;
    const int x = node.inputs[0];
    const int from = producer_[static_cast<std::size_t>(x)];
    if (x == graph_.output || from < 0 || at(x).gradients_read != 1) continue;
    Node<T>& before = graph_.nodes[static_cast<std::size_t>(from)];
    if (!before.operation || before.y != x) continue;
    node.input_activation = before.operation->own_activation();
    if (node.input_activation.kind != Activation::Kind::none) before.operation->leave_derivative();
  }
}

// Buffers and the times they are alive. With n nodes, node i runs forward at time i and backward at
// time 2 n - i; between them, at time n, are the output and the loss; updates are made at 2 n + 1.
template <typename T>
void Plan<T>::lay_out() {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
  const int nodes = static_cast<int>(graph_.nodes.size());
  buffers_.resize(graph_.nodes.size());
  for (const int input : graph_.inputs)
    at(input).data = arena_.add(at(input).count() * kBytes, -1, -1);
  for (int i = 0; i < nodes; ++i) {
    const Node<T>& node = graph_.nodes[static_cast<std::size_t>(i)];
    if (node.fused) continue;
    for (const int input : node.inputs)
      if (input >= 0 && at(input).data >= 0) arena_.extend(at(input).data, i);
    const bool shares = node.operation && node.operation->is_view() && !at(node.inputs[0]).stored;
    at(node.y).data =
        shares ? at(node.inputs[0]).data : arena_.add(at(node.y).count() * kBytes, i, i);
    if (!node.operation) continue;
    Buffers& own = buffers_[static_cast<std::size_t>(i)];
    if (const std::int64_t size = node.operation->forward_scratch(); size > 0)
      own.forward = arena_.add(size, i, i);
    if (const std::int64_t size = node.operation->saved_bytes(); size > 0)
      own.saved = arena_.add(size, i, i);
  }
  if (at(graph_.output).data >= 0) arena_.extend(at(graph_.output).data, 2 * nodes + 1);
}

template <typename T>
void Plan<T>::lay_out_backward() {
  const int nodes = static_cast<int>(graph_.nodes.size());
  const auto add_gradient = [&](Value& value, int time) {
    const std::int64_t bytes = value.shards * value.count() * static_cast<std::int64_t>(sizeof(T));
    if (value.gradient < 0)
      value.gradient = arena_.add(bytes, time, time);
    else
      arena_.extend(value.gradient, time);
    if (value.stored || value.input) arena_.extend(value.gradient, 2 * nodes + 1);
  };
  add_gradient(at(graph_.output), nodes);
  for (int i = nodes - 1; i >= 0; --i) {
    const auto index = static_cast<std::size_t>(i);
    const Node<T>& node = graph_.nodes[index];
    const Operation<T>* const operation = node.operation.get();
    Buffers& own = buffers_[index];
    // Running statistics are asked for when the pass is over.
    if (own.saved >= 0) arena_.extend(own.saved, 2 * nodes + 1);
    if (!has_backward_[index]) continue;
    const int time = 2 * nodes - i;
    arena_.extend(at(node.y).gradient, time);
    if (!operation || operation->reads_output()) arena_.extend(at(node.y).data, time);
    if (operation && operation->backward_scratch() > 0)
      own.backward = arena_.add(operation->backward_scratch(), time, time);
    for (std::size_t place = 0; place < node.inputs.size(); ++place) {
      if (node.inputs[place] < 0) continue;
      Value& x = at(node.inputs[place]);
      const bool reads = !operation || operation->reads_input(place) ||
                         (place == 0 && node.input_activation.kind != Activation::Kind::none);
      if (x.data >= 0 && reads) arena_.extend(x.data, time);
      if (!x.needed) continue;
      if (operation && x.stored && x.gradients_read == 1) x.shards = operation->shards(place);
      if (operation && operation->backward_in_place() && !x.stored && !x.input && place == 0 &&
          x.gradients_read == 1 && x.gradient < 0)
        x.gradient = at(node.y).gradient;
      add_gradient(x, time);
    }
  }
}

template class Plan<float>;
template class Plan<double>;

}  // namespace pynn::cuda
