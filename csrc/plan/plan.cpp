#include "plan/plan.h"

#include <algorithm>
#include <atomic>

#include "plan/convert.h"
#include "runtime/floating_point.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

// Up to so many samples lie in arrays: sixteen lanes would be too empty.
constexpr std::int64_t kFewSamples = 15;
constexpr std::int64_t kUnknownWork = std::int64_t{1} << 40;

std::int64_t lanes_for(const PlanGraph& graph) {
  return graph.shapes[static_cast<std::size_t>(graph.inputs[0])][0] <= kFewSamples ? 1
                                                                                   : kBlockLanes;
}

// What a node reads and writes.
struct Ports {
  std::vector<int> inputs;
  int output;
};

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

Ports ports(const PlanNode& node) {
  return std::visit(Overloaded{
                        [](const ForeignNode& n) { return Ports{n.inputs, n.y}; },
                        [](const Conv2dNode& n) { return Ports{{n.x, n.w, n.b}, n.y}; },
                        [](const LinearNode& n) { return Ports{{n.x, n.w, n.b}, n.y}; },
                        [](const BiasNode& n) { return Ports{{n.x, n.b}, n.y}; },
                        [](const AddNode& n) { return Ports{{n.a, n.b}, n.y}; },
                        [](const LibraryNode& n) { return Ports{n.inputs, n.y}; },
                        [](const auto& n) { return Ports{{n.x}, n.y}; },
                    },
                    node);
}

}  // namespace

template <typename T>
Plan<T>::Plan(PlanGraph graph) : graph_(std::move(graph)), lanes_(lanes_for(graph_)) {
  values_.resize(graph_.shapes.size());
  for (std::size_t i = 0; i < values_.size(); ++i) {
    values_[i].shape = graph_.shapes[i];
    values_[i].stored = graph_.stored[i];
    values_[i].needed = trains() && graph_.needed[i];
    if (!values_[i].stored) values_[i].layout = layout_of(graph_.shapes[i], lanes_);
  }
  for (const int input : graph_.inputs) values_[static_cast<std::size_t>(input)].input = true;
  values_[static_cast<std::size_t>(graph_.output)].is_output = true;
  fuse();
  find_rows();
  find_segments();
  lay_out();
  make_stages();
  const auto segments = static_cast<int>(segments_.size());
  slots_ = std::min<std::int64_t>(
      num_threads(), values_[static_cast<std::size_t>(graph_.inputs[0])].layout.blocks());
  arena_.place(
      [&](int time) {
        const int segment = time < segments ? time : 2 * segments - time;
        return segment >= 0 && segment < segments &&
               segments_[static_cast<std::size_t>(segment)].sharing == Sharing::blocks;
      },
      slots_);
}

// relu becomes part of the product before it, where nothing else reads that product.
template <typename T>
void Plan<T>::fuse() {
  std::vector<int> uses(values_.size(), 0), producer(values_.size(), -1);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Ports p = ports(graph_.nodes[i]);
    for (const int input : p.inputs)
      if (input >= 0) ++uses[static_cast<std::size_t>(input)];
    producer[static_cast<std::size_t>(p.output)] = static_cast<int>(i);
  }
  ++uses[static_cast<std::size_t>(graph_.output)];
  for (PlanNode& node : graph_.nodes) {
    auto* const relu = std::get_if<PointwiseNode>(&node);
    if (!relu || relu->kind != Pointwise::relu || uses[static_cast<std::size_t>(relu->x)] != 1)
      continue;
    const int before = producer[static_cast<std::size_t>(relu->x)];
    if (before < 0) continue;
    const auto absorb = [&](auto* product) {
      if (!product) return;
      product->y = relu->y;
      product->relu = true;
      values_[static_cast<std::size_t>(relu->y)].relu = true;
      relu->x = -1;  // fused: it has no stage
    };
    PlanNode& product = graph_.nodes[static_cast<std::size_t>(before)];
    absorb(std::get_if<Conv2dNode>(&product));
    absorb(std::get_if<LinearNode>(&product));
  }
}

template <typename T>
bool Plan<T>::reads_rows(const PlanNode& node) const {
  const auto given = [this](int x) { return values_[static_cast<std::size_t>(x)].rows >= 0; };
  return std::visit(
      Overloaded{
          [&](const LinearNode& n) { return n.from_rows || (lanes_ == 1 && given(n.x)); },
          [&](const Conv2dNode& n) { return lanes_ == 1 && given(n.x); },
          [&](const MaxPool2dNode& n) { return lanes_ == 1 && given(n.x); },
          [](const auto&) { return false; },
      },
      node);
}

// Inputs, in their own shape or another, that layers read as the caller gave them.
template <typename T>
void Plan<T>::find_rows() {
  const auto value = [this](int number) -> Value& {
    return values_[static_cast<std::size_t>(number)];
  };
  for (const int input : graph_.inputs) value(input).rows = input;
  for (PlanNode& node : graph_.nodes) {
    if (const auto* reshape = std::get_if<ReshapeNode>(&node))
      value(reshape->y).rows = value(reshape->x).rows;
    if (auto* linear = std::get_if<LinearNode>(&node))
      linear->from_rows = lanes_ > 1 && value(linear->x).rows >= 0 &&
                          turns_weights(value(linear->w).shape, sizeof(T));
  }
  for (const Value& each : values_) in_blocks_.push_back(each.rows < 0 || each.is_output);
  for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
    const PlanNode& node = graph_.nodes[i];
    const Ports p = ports(node);
    const bool reads = std::holds_alternative<ReshapeNode>(node)
                           ? in_blocks_[static_cast<std::size_t>(p.output)] != 0
                           : !reads_rows(node);
    for (const int input : p.inputs)
      if (input >= 0 && reads) in_blocks_[static_cast<std::size_t>(input)] = 1;
  }
}

// Nodes whose result leads to the output and depends on something whose gradient is wanted.
template <typename T>
void Plan<T>::find_backward() {
  has_backward_.assign(graph_.nodes.size(), 0);
  if (!trains()) return;
  values_[static_cast<std::size_t>(graph_.output)].reached = true;
  for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
    const Ports p = ports(graph_.nodes[i]);
    const Value& y = values_[static_cast<std::size_t>(p.output)];
    if ((p.inputs.size() == 1 && p.inputs[0] < 0) || !y.needed || !y.reached) continue;
    has_backward_[i] = 1;
    for (const int input : p.inputs)
      if (input >= 0) values_[static_cast<std::size_t>(input)].reached = true;
  }
}

template <typename T>
bool Plan<T>::foreign(std::size_t node) const {
  return std::holds_alternative<ForeignNode>(graph_.nodes[node]);
}

template <typename T>
typename Plan<T>::Sharing Plan<T>::sharing(std::size_t node) const {
  if (lanes_ == 1) return Sharing::parts;
  return std::visit(
      Overloaded{
          [](const ForeignNode&) { return Sharing::parts; },
          [](const LibraryNode& n) { return n.on_blocks ? Sharing::any : Sharing::parts; },
          [&](const LinearNode& n) {
            const Shape& w = values_[static_cast<std::size_t>(n.w)].shape;
            return shares_samples(w, sizeof(T)) ? Sharing::samples : Sharing::parts;
          },
          [](const Conv2dNode&) { return Sharing::blocks; },
          [](const MaxPool2dNode&) { return Sharing::blocks; },
          [](const auto&) { return Sharing::any; },
      },
      graph_.nodes[node]);
}

template <typename T>
void Plan<T>::find_segments() {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Sharing own = sharing(i);
    const Sharing last = segments_.empty() ? Sharing::parts : segments_.back().sharing;
    const bool joins = last != Sharing::parts && own != Sharing::parts &&
                       (own == last || own == Sharing::any || last == Sharing::any);
    if (!joins) segments_.push_back({i, i, own});
    if (segments_.back().sharing == Sharing::any) segments_.back().sharing = own;
    segments_.back().end = i + 1;
    segment_of_.push_back(static_cast<int>(segments_.size()) - 1);
  }
}

// Values that some stage walks as one run of features.
template <typename T>
std::vector<char> Plan<T>::find_dense() const {
  std::vector<char> dense(values_.size(), 0);
  const auto at = [&](int value) -> char& { return dense[static_cast<std::size_t>(value)]; };
  for (bool changed = true; changed;) {
    changed = false;
    for (const PlanNode& node : graph_.nodes) {
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
      const bool any = flat || std::any_of(both.begin(), both.end(),
                                           [&](int value) { return value >= 0 && at(value); });
      for (const int value : both)
        if (any && value >= 0 && !at(value)) {
          at(value) = 1;
          changed = true;
        }
    }
  }
  return dense;
}

// Halos, buffers and the times they are alive.
template <typename T>
void Plan<T>::lay_out() {
  const int nodes = static_cast<int>(graph_.nodes.size());
  const int segments = static_cast<int>(segments_.size());
  for (const PlanNode& node : graph_.nodes)
    if (const auto* conv = std::get_if<Conv2dNode>(&node); conv && lanes_ > 1)
      add_halo(*conv, values_[static_cast<std::size_t>(conv->x)].layout);
  const std::vector<char> dense = find_dense();
  for (std::size_t i = 0; i < values_.size(); ++i) {
    Value& value = values_[i];
    if (value.stored) continue;
    value.gradient_layout = layout_of(value.shape, lanes_);
    if (dense[i]) continue;
    spread(value.layout);
    spread(value.gradient_layout);
  }

  const auto block_bytes = [](const Layout& layout) {
    return layout.block() * static_cast<std::int64_t>(sizeof(T));
  };
  // A halo is cleared once: its memory is nobody else's.
  const auto add_data = [&](Value& value, int time) {
    value.data = arena_.add_blocks(value.layout.blocks(), block_bytes(value.layout), time, time);
    if (value.layout.has_halo()) arena_.keep_apart(value.data);
  };
  for (const int input : graph_.inputs)
    if (in_blocks_[static_cast<std::size_t>(input)])
      add_data(values_[static_cast<std::size_t>(input)], -1);
  find_backward();
  for (int i = 0; i < nodes; ++i) {
    const PlanNode& node = graph_.nodes[static_cast<std::size_t>(i)];
    const Ports p = ports(node);
    if (p.inputs.size() == 1 && p.inputs[0] < 0) continue;
    const int time = segment_of_[static_cast<std::size_t>(i)];
    Value& y = values_[static_cast<std::size_t>(p.output)];
    for (const int input : p.inputs) {
      if (input < 0) continue;
      Value& x = values_[static_cast<std::size_t>(input)];
      if (x.data >= 0) arena_.extend(x.data, time);
      if (has_backward_[static_cast<std::size_t>(i)] && x.needed) ++x.gradients_read;
    }
    const auto* const reshape = std::get_if<ReshapeNode>(&node);
    const Value* const x = reshape ? &values_[static_cast<std::size_t>(reshape->x)] : nullptr;
    if (x && x->layout.dense() && y.layout.dense()) {
      y.data = x->data;
      if (y.data >= 0) arena_.extend(y.data, time);
    } else if (in_blocks_[static_cast<std::size_t>(p.output)]) {
      add_data(y, time);
    }
  }
  Value& output = values_[static_cast<std::size_t>(graph_.output)];
  if (output.data >= 0) arena_.extend(output.data, segments);
  if (!trains()) return;
  // Backward, the output's gradient is the first that is written.
  const auto add_gradient = [&](Value& value, int time) {
    if (value.gradient < 0)
      value.gradient = arena_.add_blocks(value.gradient_layout.blocks(),
                                         block_bytes(value.gradient_layout), time, time);
    else
      arena_.extend(value.gradient, time);
  };
  if (!output.stored) add_gradient(output, segments);
  for (int i = nodes - 1; i >= 0; --i) {
    if (!has_backward_[static_cast<std::size_t>(i)]) continue;
    const int time = 2 * segments - segment_of_[static_cast<std::size_t>(i)];
    const PlanNode& node = graph_.nodes[static_cast<std::size_t>(i)];
    const Ports p = ports(node);
    Value& y = values_[static_cast<std::size_t>(p.output)];
    add_gradient(y, time);
    for (const int input : p.inputs) {
      if (input < 0) continue;
      Value& x = values_[static_cast<std::size_t>(input)];
      if (x.stored || !x.needed) continue;
      const bool in_place = std::holds_alternative<ReshapeNode>(node) ||
                            std::holds_alternative<PointwiseNode>(node) ||
                            std::holds_alternative<DropoutNode>(node);
      if (in_place && x.gradients_read == 1 && x.gradient < 0) x.gradient = y.gradient;
      add_gradient(x, time);
      if (x.input) arena_.extend(x.gradient, 2 * segments + 1);
    }
  }
  if (!takes_labels() || !turns_at_once()) return;
  // Some blocks are on their way back while others still go forward.
  for (std::size_t i = segments_.back().begin; i < segments_.back().end; ++i) {
    const Ports p = ports(graph_.nodes[i]);
    std::vector<int> touched = p.inputs;
    touched.push_back(p.output);
    for (const int number : touched) {
      if (number < 0) continue;
      const Value& each = values_[static_cast<std::size_t>(number)];
      if (each.data >= 0) arena_.extend(each.data, segments + 1);
      if (each.gradient >= 0) arena_.extend(each.gradient, segments - 1);
    }
  }
}

// How the stage that is being made writes the gradient of this value; stages are made in the order
// of the backward pass.
template <typename T>
GradientMode Plan<T>::gradient_mode(int number) {
  const auto index = static_cast<std::size_t>(number);
  if (number < 0 || !values_[index].needed) return GradientMode::none;
  const bool before = written_[index];
  written_[index] = 1;
  return before ? GradientMode::add : GradientMode::overwrite;
}

template <typename T>
void Plan<T>::make_stages() {
  const int nodes = static_cast<int>(graph_.nodes.size());
  stages_.resize(graph_.nodes.size());
  written_before_.resize(graph_.nodes.size());
  written_.assign(values_.size(), 0);
  if (trains()) written_[static_cast<std::size_t>(graph_.output)] = 1;
  for (int i = nodes - 1; i >= 0; --i) {
    const auto index = static_cast<std::size_t>(i);
    const bool backward = has_backward_[index];
    Builder<T> builder{values_, arena_, segment_of_[index], static_cast<int>(segments_.size()),
                       backward};
    const auto mode = [&](int number) {
      return backward ? gradient_mode(number) : GradientMode::none;
    };
    const auto again = [&](int number) { return mode(number) == GradientMode::add; };
    stages_[index] = std::visit(
        Overloaded{
            [&](const ForeignNode& n) -> std::unique_ptr<Stage<T>> {
              for (const int input : n.inputs) {
                written_before_[index].push_back(again(input));
                if (input >= 0) builder.keep(input);
              }
              if (backward) builder.keep(n.y);
              return nullptr;
            },
            [&](const Conv2dNode& n) {
              const LayerGradients gradients{mode(n.x), again(n.w), again(n.b)};
              return lanes_ == 1 ? make_array_conv2d_stage(builder, n, gradients)
                                 : make_conv2d_stage(builder, n, gradients);
            },
            [&](const LinearNode& n) {
              const LayerGradients gradients{mode(n.x), again(n.w), again(n.b)};
              return lanes_ == 1 ? make_array_linear_stage(builder, n, gradients)
                                 : make_linear_stage(builder, n, gradients);
            },
            [&](const PointwiseNode& n) -> std::unique_ptr<Stage<T>> {
              if (n.x < 0) return nullptr;
              return make_pointwise_stage(builder, n, mode(n.x));
            },
            [&](const MaxPool2dNode& n) {
              return lanes_ == 1 ? make_array_max_pool2d_stage(builder, n, mode(n.x))
                                 : make_max_pool2d_stage(builder, n, mode(n.x));
            },
            [&](const DropoutNode& n) { return make_dropout_stage(builder, n, mode(n.x)); },
            [&](const LibraryNode& n) {
              std::vector<GradientMode> modes;
              for (const int input : n.inputs) modes.push_back(mode(input));
              return make_library_stage(builder, n, std::move(modes));
            },
            [&](const BiasNode& n) {
              const GradientMode dx = mode(n.x);
              return make_bias_stage(builder, n, dx, again(n.b));
            },
            [&](const AddNode& n) {
              const GradientMode da = mode(n.a), db = mode(n.b);
              return make_add_stage(builder, n, da, db);
            },
            [&](const ReshapeNode& n) { return make_reshape_stage(builder, n, mode(n.x)); },
        },
        graph_.nodes[index]);
    if (!stages_[index]) continue;
    const Layout& y = values_[static_cast<std::size_t>(ports(graph_.nodes[index]).output)].layout;
    segments_[static_cast<std::size_t>(segment_of_[index])].work +=
        stages_[index]->report().flops / y.blocks() + 4 * y.block();
  }
}

template <typename T>
std::int64_t Plan<T>::work() const {
  std::int64_t work = 0;
  for (const PlanNode& node : graph_.nodes)  // how long those of libraries take nobody knows
    if (std::holds_alternative<LibraryNode>(node)) return kUnknownWork;
  for (const Segment& segment : segments_) work += segment.work;
  return work * value(graph_.inputs[0]).layout.blocks();
}

template <typename T>
std::unique_ptr<Memory> Plan<T>::allocate() const {
  auto memory = std::make_unique<Memory>(arena_.bytes());
  for (const Value& value : values_) {
    if (value.data < 0 || !value.layout.has_halo()) continue;
    Layout layout = value.layout;
    if (arena_.slot_bytes(value.data) > 0) layout.samples = slots_ * kBlockLanes;
    clear_halo(layout, reinterpret_cast<T*>(memory->data() + arena_.offset(value.data)));
  }
  return memory;
}

template <typename T>
Run<T> Plan<T>::start(const Memory& memory) const {
  Run<T> run;
  run.arena = &arena_;
  run.memory = memory.data();
  run.rows.resize(values_.size());
  run.stored.resize(values_.size());
  run.gradients.resize(values_.size());
  run.accumulate.resize(values_.size());
  run.updates.resize(values_.size());
  return run;
}

template <typename T>
void Plan<T>::set_input(Run<T>& run, int number, const T* rows) const {
  run.rows[static_cast<std::size_t>(number)] = rows;
  if (value(number).data >= 0) write(run, number, rows);
}

// Where blocks go one by one, a slot is a thread's, which takes the next block when it has done
// one; as many blocks as slots could share evenly do, and of the others, all threads do each stage
// together.
template <typename T>
template <typename Function>
void Plan<T>::for_each_block(const Segment& segment, const Function& function) const {
  const std::int64_t blocks = values_[static_cast<std::size_t>(graph_.inputs[0])].layout.blocks();
  if (segment.sharing == Sharing::parts) return function({0, blocks, 0});
  if (segment.sharing != Sharing::blocks) {
    parallel_for(blocks, segment.work,
                 [&](std::int64_t begin, std::int64_t end) { function({begin, end, 0}); });
    return;
  }
  const std::int64_t each = blocks / slots_, shared = each * slots_;
  std::atomic<std::int64_t> next{0};
  parallel_for(each > 0 ? slots_ : 0, each * segment.work,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t slot = begin; slot < end; ++slot)
                   for (std::int64_t i = next++; i < shared; i = next++) function({i, i + 1, slot});
               });
  if (shared < blocks) function({shared, blocks, 0});
}

template <typename T>
void Plan<T>::begin_forward(const Run<T>& run, const Segment& segment) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i)
    if (stages_[i]) stages_[i]->begin_forward(run);
}

template <typename T>
void Plan<T>::forward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i)
    if (stages_[i]) stages_[i]->forward(run, blocks);
}

template <typename T>
void Plan<T>::begin_backward(const Run<T>& run, const Segment& segment) const {
  for (std::size_t i = segment.end; i-- > segment.begin;)
    if (stages_[i] && has_backward_[i]) stages_[i]->begin_backward(run);
}

template <typename T>
void Plan<T>::backward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const {
  for (std::size_t i = segment.end; i-- > segment.begin;)
    if (stages_[i] && has_backward_[i]) stages_[i]->backward(run, blocks);
}

template <typename T>
void Plan<T>::finish_backward(const Run<T>& run, const Segment& segment) const {
  for (std::size_t i = segment.end; i-- > segment.begin;)
    if (stages_[i] && has_backward_[i]) stages_[i]->finish_backward(run);
}

template <typename T>
bool Plan<T>::has_backward(const Segment& segment) const {
  return std::any_of(has_backward_.begin() + static_cast<std::ptrdiff_t>(segment.begin),
                     has_backward_.begin() + static_cast<std::ptrdiff_t>(segment.end),
                     [](char has) { return has; });
}

template <typename T>
int Plan<T>::forward(const Run<T>& run, int node) const {
  const FlushSubnormals flush;
  const std::size_t nodes = graph_.nodes.size();
  for (auto index = static_cast<std::size_t>(node); index < nodes;) {
    if (foreign(index)) return static_cast<int>(index);
    const Segment& segment = segments_[static_cast<std::size_t>(segment_of_[index])];
    begin_forward(run, segment);
    for_each_block(segment, [&](BlockRange blocks) { forward_blocks(run, segment, blocks); });
    index = segment.end;
  }
  return static_cast<int>(nodes);
}

template <typename T>
int Plan<T>::backward(const Run<T>& run, int node) const {
  const FlushSubnormals flush;
  while (node >= 0) {
    const auto index = static_cast<std::size_t>(node);
    if (foreign(index) && has_backward_[index]) return node;
    const Segment& segment = segments_[static_cast<std::size_t>(segment_of_[index])];
    if (has_backward(segment)) {
      begin_backward(run, segment);
      for_each_block(segment, [&](BlockRange blocks) { backward_blocks(run, segment, blocks); });
      finish_backward(run, segment);
    }
    node = static_cast<int>(segment.begin) - 1;
  }
  return -1;
}

template <typename T>
bool Plan<T>::takes_labels() const {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
    if (foreign(i)) return false;
  const Value& output = value(graph_.output);
  return trains() && output.needed && output.data >= 0 && output.shape.size() == 2 &&
         output.shape[1] < CrossEntropyTask<T>::kLong &&
         ports(graph_.nodes.back()).output == graph_.output;
}

template <typename T>
bool Plan<T>::turns_at_once() const {
  const Sharing sharing = segments_.back().sharing;
  return sharing == Sharing::samples || sharing == Sharing::any;
}

template <typename T>
void Plan<T>::forward_with_loss(const Run<T>& run, const CrossEntropyTask<T>& loss) const {
  const FlushSubnormals flush;
  const Value& output = value(graph_.output);
  const Layout& layout = output.layout;
  const T* const y = run.at(output.data);
  T* const dy = run.at(output.gradient);
  CrossEntropyTask<T> task = loss;
  task.gradient = dy;
  const auto lose = [&](BlockRange blocks) {
    if (layout.is_array()) {
      task.logits = y;
      isa_table<T>().cross_entropy.run(task, 0, layout.samples, scratch<T>(task.workspace()));
      return;
    }
    for (std::int64_t block = blocks.begin; block < blocks.end; ++block) {
      const std::int64_t first = block * kBlockLanes;
      isa_table<T>().cross_entropy.run_block(
          task, first, static_cast<int>(std::min(kBlockLanes, layout.samples - first)),
          y + block * layout.block(), dy + block * layout.block());
    }
  };
  const Segment& last = segments_.back();
  const bool at_once = turns_at_once();
  for (const Segment& segment : segments_) {
    if (at_once && &segment == &last) break;
    begin_forward(run, segment);
    for_each_block(segment, [&](BlockRange blocks) { forward_blocks(run, segment, blocks); });
  }
  if (!at_once) return lose({0, layout.blocks(), 0});
  begin_forward(run, last);
  begin_backward(run, last);
  parallel_for(layout.blocks(), 2 * last.work + 40 * layout.block(),
               [&](std::int64_t begin, std::int64_t end) {
                 const BlockRange blocks{begin, end, 0};
                 forward_blocks(run, last, blocks);
                 lose(blocks);
                 backward_blocks(run, last, blocks);
               });
}

template <typename T>
void Plan<T>::backward_from_loss(const Run<T>& run) const {
  const FlushSubnormals flush;
  const Segment& last = segments_.back();
  if (!turns_at_once()) {
    backward(run, static_cast<int>(last.end) - 1);
    return;
  }
  finish_backward(run, last);
  backward(run, static_cast<int>(last.begin) - 1);
}

template <typename T>
void Plan<T>::read(const Run<T>& run, int number, T* rows) const {
  from_blocks(value(number).layout, run.at(value(number).data), rows);
}

template <typename T>
void Plan<T>::write(const Run<T>& run, int number, const T* rows) const {
  to_blocks(value(number).layout, rows, run.at(value(number).data));
}

template <typename T>
void Plan<T>::read_gradient(const Run<T>& run, int number, T* rows) const {
  from_blocks(value(number).gradient_layout, run.at(value(number).gradient), rows);
}

template <typename T>
void Plan<T>::write_gradient(const Run<T>& run, int number, const T* rows, bool add) const {
  const Layout layout = value(number).gradient_layout;
  T* const gradient = run.at(value(number).gradient);
  if (!add) return to_blocks(layout, rows, gradient);
  std::vector<T> part(static_cast<std::size_t>(layout.size()));
  to_blocks(layout, rows, part.data());
  for (std::size_t i = 0; i < part.size(); ++i) gradient[i] += part[i];
}

template <typename T>
bool Plan<T>::gradient_written(int node, int input) const {
  return written_before_[static_cast<std::size_t>(node)][static_cast<std::size_t>(input)];
}

template <typename T>
bool Plan<T>::may_fail() const {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const auto* const node = std::get_if<LibraryNode>(&graph_.nodes[i]);
    if (node && has_backward_[i] && node->op->has_backward() &&
        !node->op->has(PYNN_BACKWARD_NEVER_FAILS))
      return true;
  }
  return false;
}

template <typename T>
std::vector<typename Plan<T>::NodeReport> Plan<T>::report() const {
  std::vector<NodeReport> reports;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    NodeReport report;
    if (stages_[i]) report.stage = stages_[i]->report();
    const Value& y = values_[static_cast<std::size_t>(ports(graph_.nodes[i]).output)];
    if (stages_[i] || foreign(i)) {
      const Layout& l = y.layout;
      const auto side = [](std::int64_t size, std::int64_t before, std::int64_t after) {
        return before + after > 0 ? message("[", before, " + ", size, " + ", after, "]")
                                  : message("[", size, "]");
      };
      report.layout =
          message("[", l.blocks(), "][", l.channels, "]", side(l.height, l.top, l.bottom),
                  side(l.width, l.left, l.right), l.is_array() ? "" : "[16]");
      report.bytes = l.size() * static_cast<std::int64_t>(sizeof(T));
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

template class Plan<float>;
template class Plan<double>;

}  // namespace pynn
