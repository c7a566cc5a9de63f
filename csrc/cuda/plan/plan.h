// A graph with its shapes, compiled for the device: fusions, memory and the order of work are
// settled once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/plan/operation.h"
#include "plan/arena.h"
#include "runtime/errors.h"

namespace pynn::cuda {

template <typename T>
struct Node {
  std::vector<int> inputs;  // -1: absent
  int y = -1;
  std::unique_ptr<Operation<T>> operation;  // null: foreign, its caller runs it on the host
  bool fused = false;                       // into a node before it, which gives its y
  Activation input_activation{};            // what backward does for the node before it
};

template <typename T>
struct PlanGraph {
  std::vector<Shape> shapes;  // of each value; (N, ...) except where it is stored
  std::vector<char> stored;   // parameters, buffers, constants
  std::vector<char> needed;   // values whose gradients are wanted; empty: there is no backward pass
  std::vector<int> inputs;
  std::vector<Node<T>> nodes;
  int output = -1;
};

// What is known of a value. The members that are buffers are numbers in the arena; -1 where there
// is none.
struct Value {
  Shape shape;
  bool stored = false, input = false, needed = false, reached = false;
  int data = -1, gradient = -1;
  int gradients_read = 0;   // how many nodes add to its gradient
  std::int64_t shards = 1;  // parts that its gradient is the sum of
  std::int64_t count() const { return element_count(shape); }
};

template <typename T>
class Plan {
 public:
  explicit Plan(PlanGraph<T> graph);

  const std::vector<Node<T>>& nodes() const { return graph_.nodes; }
  const std::vector<int>& inputs() const { return graph_.inputs; }
  int output() const { return graph_.output; }
  int values() const { return static_cast<int>(values_.size()); }
  const Value& value(int number) const { return values_[static_cast<std::size_t>(number)]; }
  bool foreign(std::size_t node) const {
    return !graph_.nodes[node].operation && !graph_.nodes[node].fused;
  }
  bool has_backward(std::size_t node) const { return has_backward_[node]; }
  bool trains() const { return !graph_.needed.empty(); }
  // Whether the gradient of this input of a node has been written before, by nodes after it.
  bool written_before(std::size_t node, std::size_t input) const {
    return written_before_[node][input];
  }
  const Arena& arena() const { return arena_; }
  // Buffers of a node: what forward leaves for backward, and working memory of each; -1: none.
  struct Buffers {
    int saved = -1, forward = -1, backward = -1;
  };
  const Buffers& buffers(std::size_t node) const { return buffers_[node]; }

 private:
  Value& at(int number) { return values_[static_cast<std::size_t>(number)]; }
  void fuse();
  void find_backward();
  void find_written();
  void hand_over_derivatives();
  void lay_out();
  void lay_out_backward();

  PlanGraph<T> graph_;
  std::vector<Value> values_;
  std::vector<int> producer_;  // of each value, a node
  std::vector<char> has_backward_;
  std::vector<std::vector<char>> written_before_;
  std::vector<Buffers> buffers_;
  Arena arena_;
};

}  // namespace pynn::cuda
