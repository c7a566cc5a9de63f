#include "plan/plan.h"

#include <algorithm>

#include "plan/buffers.h"
#include "plan/convert.h"
#include "runtime/floating_point.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

constexpr std::int64_t kUnknownWork = std::int64_t{1} << 40;

}  // namespace

template <typename T>
Plan<T>::Plan(PlanGraph graph) : graph_(std::move(graph)) {
  fuse(graph_, sizeof(T));
  graph_.fold = fold_of(graph_);
  values_ = values_of(graph_, sizeof(T));
  segments_ = segments_of(graph_, values_, sizeof(T));
  arena_ = add_buffers(graph_, segments_, sizeof(T), values_);
  stages_ = make_stages<T>(graph_, segments_, values_, arena_);
  if (graph_.fold.nodes > 0) {
    folded_.emplace(graph_, segments_, values_, stages_, arena_);
    segments_[0].folded_work = folded_->work();
  }
  slots_ = std::min<std::int64_t>(num_threads(), value(graph_.output).layout.blocks());
  arena_.place([this](int time) { return passes_blocks(segments_, time); }, slots_);
}

template <typename T>
std::int64_t Plan<T>::work() const {
  std::int64_t work = 0;
  for (const PlanNode& node : graph_.nodes)  // how long those of libraries take nobody knows
    if (std::holds_alternative<LibraryNode>(node)) return kUnknownWork;
  for (const Segment& segment : segments_) work += segment.work * segment.blocks;
  return work;
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
  if (folded_) folded_->clear_halos(start(*memory));
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
  if (folded_) folded_->set_input(run, rows);
}

template <typename T>
bool Plan<T>::foreign(std::size_t node) const {
  return std::holds_alternative<ForeignNode>(graph_.nodes[node]);
}

template <typename T>
bool Plan<T>::has_backward(const Segment& segment) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i)
    if (stages_[i].stage && stages_[i].has_backward) return true;
  return false;
}

template <typename T>
void Plan<T>::forward_segment(const Run<T>& run, const Segment& segment) const {
  begin_forward(run, segment);
  for_each_block(
      segment, slots_, [&](BlockRange blocks) { forward_blocks(run, segment, blocks); },
      [&] { folded_->forward(run); });
}

template <typename T>
void Plan<T>::begin_forward(const Run<T>& run, const Segment& segment) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i)
    if (stages_[i].stage) stages_[i].stage->begin_forward(run);
}

template <typename T>
void Plan<T>::forward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i)
    if (stages_[i].stage) stages_[i].stage->forward(run, blocks);
}

template <typename T>
void Plan<T>::begin_backward(const Run<T>& run, const Segment& segment) const {
  for (std::size_t i = segment.end; i-- > segment.begin;)
    if (stages_[i].stage && stages_[i].has_backward) stages_[i].stage->begin_backward(run);
}

template <typename T>
void Plan<T>::backward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const {
  for (std::size_t i = segment.end; i-- > segment.begin;)
    if (stages_[i].stage && stages_[i].has_backward) stages_[i].stage->backward(run, blocks);
}

template <typename T>
bool Plan<T>::in_place(const Run<T>& run, const Segment& segment) const {
  const NodeStage<T>& only = stages_[segment.begin];
  return segment.end - segment.begin == 1 && only.stage && only.has_backward &&
         only.stage->finish_parts(run).in_place;
}

// What is too little for several threads is done beside what is cut, by the first of them, which
// does as much less of that.
template <typename T>
void Plan<T>::finish_backward(const Run<T>& run, std::size_t begin, std::size_t end) const {
  const Stage<T>* cut = nullptr;
  FinishParts parts;
  std::vector<const Stage<T>*> small;
  std::int64_t work = 0;
  for (std::size_t i = end; i-- > begin;) {
    if (!stages_[i].stage || !stages_[i].has_backward) continue;
    const Stage<T>* const stage = stages_[i].stage.get();
    const FinishParts own = stage->finish_parts(run);
    if (own.count > 1 && !cut) {
      cut = stage;
      parts = own;
    } else if (own.count == 1) {
      small.push_back(stage);
      work += own.work;
    } else {
      stage->finish_backward(run);
    }
  }
  const auto finish_small = [&] {
    for (const Stage<T>* const stage : small) stage->finish_backward(run);
  };
  if (!cut) return finish_small();
  const std::int64_t unit = parts.work / parts.count, ahead = work / (2 * unit) * 2;
  parallel_for(ahead + parts.count, unit, [&](std::int64_t first, std::int64_t past) {
    if (first == 0) finish_small();
    for (std::int64_t i = std::max(first, ahead); i < past; ++i) cut->finish_part(run, i - ahead);
  });
}

template <typename T>
int Plan<T>::forward(const Run<T>& run, int node) const {
  const FlushSubnormals flush;
  for (const Segment& segment : segments_) {
    if (static_cast<int>(segment.end) <= node) continue;
    if (foreign(segment.begin)) return static_cast<int>(segment.begin);
    forward_segment(run, segment);
  }
  return static_cast<int>(graph_.nodes.size());
}

template <typename T>
int Plan<T>::backward(const Run<T>& run, int node) const {
  const FlushSubnormals flush;
  for (std::size_t i = segments_.size(); i-- > 0;) {
    const Segment& segment = segments_[i];
    if (static_cast<int>(segment.begin) > node) continue;
    if (foreign(segment.begin) && stages_[segment.begin].has_backward)
      return static_cast<int>(segment.begin);
    if (!has_backward(segment)) continue;
    begin_backward(run, segment);
    for_each_block(
        segment, slots_, [&](BlockRange blocks) { backward_blocks(run, segment, blocks); },
        [&] { folded_->backward(run); });
    finish_backward(run, segment.begin, segment.end);
  }
  return -1;
}

template <typename T>
void Plan<T>::forward_with_loss(const Run<T>& run, const CrossEntropyTask<T>& loss,
                                T* output) const {
  const FlushSubnormals flush;
  const Layout& layout = value(graph_.output).layout;
  const T* const y = run.at(value(graph_.output).data);
  T* const dy = run.at(value(graph_.output).gradient);
  CrossEntropyTask<T> task = loss;
  task.gradient = dy;
  const auto lose = [&](BlockRange blocks) {
    from_blocks(layout, y, output, blocks);
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
  for (const Segment& segment : segments_)
    if (!segment.turns) forward_segment(run, segment);
  if (!last.turns) return lose({0, layout.blocks(), 0});
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
  if (!last.turns) {
    backward(run, static_cast<int>(last.end) - 1);
    return;
  }
  // A layer before whose weights are many beside the others' is the last to wait for.
  std::size_t begin = last.begin;
  if (begin > 0 && in_place(run, segments_[segments_.size() - 2])) {
    const Segment& before = segments_[segments_.size() - 2];
    begin_backward(run, before);
    backward_blocks(run, before, {0, before.blocks, 0});
    begin = before.begin;
  }
  finish_backward(run, begin, last.end);
  backward(run, static_cast<int>(begin) - 1);
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
  return stages_[static_cast<std::size_t>(node)].gradients[static_cast<std::size_t>(input)] ==
         GradientMode::add;
}

template <typename T>
bool Plan<T>::may_fail() const {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const auto* const node = std::get_if<LibraryNode>(&graph_.nodes[i]);
    if (node && stages_[i].has_backward && node->op->has_backward() &&
        !node->op->has(PYNN_BACKWARD_NEVER_FAILS))
      return true;
  }
  return false;
}

namespace {

std::string text_of(const Layout& l) {
  const auto side = [](std::int64_t size, std::int64_t before, std::int64_t after) {
    return before + after > 0 ? message("[", before, " + ", size, " + ", after, "]")
                              : message("[", size, "]");
  };
  return message("[", l.blocks(), "][", l.channels, "]", side(l.height, l.top, l.bottom),
                 side(l.width, l.left, l.right), l.is_array() ? "" : "[16]");
}

}  // namespace

template <typename T>
std::vector<typename Plan<T>::NodeReport> Plan<T>::report() const {
  std::vector<NodeReport> reports;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    NodeReport report;
    if (stages_[i].stage) report.stage = stages_[i].stage->report();
    const Value& y = values_[static_cast<std::size_t>(ports(graph_.nodes[i]).output)];
    if (stages_[i].stage || foreign(i)) {
      report.layout = text_of(y.layout);
      report.bytes = y.layout.size() * static_cast<std::int64_t>(sizeof(T));
    }
    if (const Stage<T>* const folded = i < graph_.fold.nodes ? folded_->stage(i) : nullptr) {
      const StageReport more = folded->report();
      report.stage.flops += more.flops;
      report.stage.backward_flops += more.backward_flops;
      const Layout& layout = folded_->layout(ports(graph_.nodes[i]).output);
      report.layout += " and " + text_of(layout);
      report.bytes += layout.size() * static_cast<std::int64_t>(sizeof(T));
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

template class Plan<float>;
template class Plan<double>;

}  // namespace pynn
