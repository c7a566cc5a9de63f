// A graph with its shapes, compiled: layouts, fusions, memory and the order of work are settled
// once; a pass then only computes.
#pragma once

#include <variant>

#include "kernels/cross_entropy.h"
#include "plan/add_stage.h"
#include "plan/array_conv2d_stage.h"
#include "plan/array_linear_stage.h"
#include "plan/array_max_pool2d_stage.h"
#include "plan/bias_stage.h"
#include "plan/conv2d_stage.h"
#include "plan/dropout_stage.h"
#include "plan/library_stage.h"
#include "plan/linear_stage.h"
#include "plan/max_pool2d_stage.h"
#include "plan/memory.h"
#include "plan/pointwise_stage.h"
#include "plan/reshape_stage.h"

namespace pynn {

// An operator that plans do not know: its caller runs it on arrays (N, ...).
struct ForeignNode {
  std::vector<int> inputs;
  int y = -1;
};

using PlanNode = std::variant<ForeignNode, Conv2dNode, LinearNode, PointwiseNode, MaxPool2dNode,
                              DropoutNode, BiasNode, AddNode, ReshapeNode, LibraryNode>;

struct PlanGraph {
  std::vector<Shape> shapes;  // of each value; (N, ...) except where it is stored
  std::vector<char> stored;   // parameters, buffers, constants
  std::vector<char> needed;   // values whose gradients are wanted; empty: there is no backward pass
  std::vector<int> inputs;
  std::vector<PlanNode> nodes;
  int output = -1;
};

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

  // Whether a loss of labels can be part of a pass: no node is foreign, and the output (N, classes)
  // comes from the last.
  bool takes_labels() const;
  // Forward, and the loss: the gradient of the output is written, and as much of the backward pass
  // done as updates nothing. `loss` has labels, their scale and memory for the losses.
  void forward_with_loss(const Run<T>& run, const CrossEntropyTask<T>& loss) const;
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
  bool trains() const { return !graph_.needed.empty(); }
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
  void fuse();
  void find_backward();
  void find_rows();
  void find_segments();
  std::vector<char> find_dense() const;
  // Whether a node reads its input as the caller gave it.
  bool reads_rows(const PlanNode& node) const;
  void lay_out();
  void make_stages();
  GradientMode gradient_mode(int value);
  bool foreign(std::size_t node) const;

  // How threads share the work of a segment.
  enum class Sharing {
    any,     // as the nodes before
    blocks,  // each takes its blocks of samples through the whole segment, one by one, so that what
             // one stage writes is still in the cache when the next reads it
    samples,  // each takes its blocks through the whole segment, all at once
    parts     // of each stage: a segment is one node
  };
  Sharing sharing(std::size_t node) const;
  struct Segment {
    std::size_t begin, end;
    Sharing sharing;
    std::int64_t work = 0;  // of a block, in floating-point operations, roughly
  };
  void begin_forward(const Run<T>& run, const Segment& segment) const;
  void forward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const;
  void begin_backward(const Run<T>& run, const Segment& segment) const;
  void backward_blocks(const Run<T>& run, const Segment& segment, BlockRange blocks) const;
  void finish_backward(const Run<T>& run, const Segment& segment) const;
  bool has_backward(const Segment& segment) const;
  // Whether forward, loss and backward of the last segment are one walk over the blocks.
  bool turns_at_once() const;
  template <typename Function>
  void for_each_block(const Segment& segment, const Function& function) const;

  PlanGraph graph_;
  const std::int64_t lanes_;  // of a block
  std::vector<Value> values_;
  Arena arena_;
  std::int64_t slots_ = 1;                         // of blocks that pass by at the same time
  std::vector<std::unique_ptr<Stage<T>>> stages_;  // null: foreign, or fused into another
  std::vector<Segment> segments_;
  std::vector<int> segment_of_;  // of each node
  std::vector<char> has_backward_;
  std::vector<std::vector<char>> written_before_;  // of foreign nodes, for each input
  std::vector<char> written_;
  std::vector<char> in_blocks_;  // whether a value is wanted in blocks of samples
};

}  // namespace pynn
