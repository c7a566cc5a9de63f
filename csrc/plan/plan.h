// A graph with its shapes, compiled: layouts, fusions, memory and the order of work are settled
// once; a pass then only computes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cross_entropy.h"
#include "plan/folded_block.h"
#include "plan/memory.h"
#include "plan/stages.h"

namespace pynn {

template <typename T>
class Plan {
 public:
  explicit Plan(PlanGraph graph);

  std::int64_t bytes() const { return arena_.bytes(); }
  // Of a pass forward, in floating-point operations, roughly.
  std::int64_t work() const;
  // Memory whose halos are zero.
  std::unique_ptr<Memory> allocate() const;
  Run<T> start(const Memory& memory) const;

  // Converts an input (N, ...) and notes where it lies.
  void set_input(Run<T>& run, int value, const T* rows) const;
  // Runs from `node` on; the first foreign node that is met, or the number of nodes.
  int forward(const Run<T>& run, int node) const;
  // Runs backward from `node` on; the first foreign node that is met, or -1.
  int backward(const Run<T>& run, int node) const;

  bool takes_labels() const { return pynn::takes_labels(graph_); }
  bool winograd() const { return graph_.winograd; }
  // Forward, and the loss: the gradient of the output is written, and as much of the backward pass
  // done as updates nothing. `loss` has labels, their scale and memory for the losses; output (N,
  // classes).
  void forward_with_loss(const Run<T>& run, const CrossEntropyTask<T>& loss, T* output) const;
  // The rest of the backward pass.
  void backward_from_loss(const Run<T>& run) const;

  void read(const Run<T>& run, int value, T* rows) const;
  void write(const Run<T>& run, int value, const T* rows) const;
  void read_gradient(const Run<T>& run, int value, T* rows) const;
  // Adds to a gradient, or is the first to write it.
  void write_gradient(const Run<T>& run, int value, const T* rows, bool add) const;
  // Whether the gradient of this input of a foreign node has been written before.
  bool gradient_written(int node, int input) const;

  const Value& value(int number) const { return values_[static_cast<std::size_t>(number)]; }
  const std::vector<PlanNode>& nodes() const { return graph_.nodes; }
  bool trains() const { return graph_.trains(); }
  // Whether backward may fail half-way: some gradients are written then, and others not.
  bool may_fail() const;
  // What each node does, in the order of the graph.
  struct NodeReport {
    StageReport stage;       // empty: foreign, or fused into another
    std::string layout;      // of the result
    std::int64_t bytes = 0;  // of the result
  };
  std::vector<NodeReport> report() const;

 private:
  bool foreign(std::size_t node) const;
  bool has_backward(const Segment& segment) const;
  void forward_segment(const Run<T>& run, const Segment& segment) const;
  void begin_forward(const Run<T>& run, const Segment& segment) const;
  void forward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const;
  void begin_backward(const Run<T>& run, const Segment& segment) const;
  void backward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const;
  // Of the nodes begin ... end.
  void finish_backward(const Run<T>& run, std::size_t begin, std::size_t end) const;
  // Whether the backward pass of a segment needs no memory of the plan but its gradient.
  bool in_place(const Run<T>& run, const Segment& segment) const;

  PlanGraph graph_;
  std::vector<Value> values_;
  std::vector<Segment> segments_;
  Arena arena_;
  std::vector<NodeStage<T>> stages_;  // of each node
  std::optional<FoldedBlock<T>> folded_;
  std::int64_t slots_ = 1;  // of blocks that pass by at the same time
};

}  // namespace pynn
