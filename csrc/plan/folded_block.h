// The folded block of a batch: stages of its own for the nodes that go over it in bands, on values
// that are nowhere else in the plan.
#pragma once

#include <vector>

#include "plan/stages.h"

namespace pynn {

template <typename T>
class FoldedBlock {
 public:
  // The rest is the plan's, with its buffers and stages made: this adds buffers to the arena.
  FoldedBlock(const PlanGraph& graph, const std::vector<Segment>& segments,
              const std::vector<Value>& values, const std::vector<NodeStage<T>>& stages,
              Arena& arena);

  void clear_halos(const Run<T>& run) const;
  // rows: the input of all samples.
  void set_input(const Run<T>& run, const T* rows) const;
  // Writes the block of what the nodes give.
  void forward(const Run<T>& run) const;
  // Reads the block of its gradient. Gradients of parameters are left to the stages of the plan.
  void backward(const Run<T>& run) const;

  std::int64_t work() const;  // forward, in floating-point operations, roughly
  const Stage<T>* stage(std::size_t node) const { return stages_[node].get(); }
  const Layout& layout(int value) const { return values_[static_cast<std::size_t>(value)].layout; }

 private:
  // A value of the plan, or its gradient: where this block of it lies, and in what layout.
  struct Block {
    Layout layout;
    int buffer = -1;
    std::int64_t offset = 0;  // in elements
  };
  Block block_of(const Layout& layout, int buffer) const;

  const Fold fold_;
  std::vector<Value> values_;
  std::vector<int> outputs_;  // of nodes
  std::vector<std::unique_ptr<Stage<T>>> stages_;
  std::vector<char> has_backward_;
  Block y_, dx_, dy_;
  int images_ = -1, gradient_images_ = -1;  // arrays on the way between blocks and bands
};

}  // namespace pynn
