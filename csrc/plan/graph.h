// A graph with its shapes, as a plan is made of it: values are numbers, nodes stand in an order in
// which they can run.
#pragma once

#include <variant>
#include <vector>

#include "plan/add_stage.h"
#include "plan/bias_stage.h"
#include "plan/conv2d_stage.h"
#include "plan/dropout_stage.h"
#include "plan/fold.h"
#include "plan/library_stage.h"
#include "plan/linear_stage.h"
#include "plan/max_pool2d_stage.h"
#include "plan/pointwise_stage.h"
#include "plan/reshape_stage.h"

namespace pynn {

// An operator that plans do not know: its caller runs it on arrays (N, ...).
struct ForeignNode {
  std::vector<int> inputs;
  int y = -1;
};

// An operator that the node before it does as well.
struct FusedNode {
  int y = -1;
};

using PlanNode =
    std::variant<ForeignNode, FusedNode, Conv2dNode, LinearNode, PointwiseNode, MaxPool2dNode,
                 DropoutNode, BiasNode, AddNode, ReshapeNode, LibraryNode>;

// For std::visit: a function for each kind of node.
template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

// What a node reads and writes.
struct Ports {
  std::vector<int> inputs;  // -1: absent
  int output;
};
Ports ports(const PlanNode& node);

struct PlanGraph {
  std::vector<Shape> shapes;  // of each value; (N, ...) except where it is stored
  std::vector<char> stored;   // parameters, buffers, constants
  std::vector<char> needed;   // values whose gradients are wanted; empty: there is no backward pass
  std::vector<int> inputs;
  std::vector<PlanNode> nodes;
  int output = -1;
  bool winograd = false;  // whether convolutions may be computed by Winograd's filtering
  Fold fold;

  bool trains() const { return !needed.empty(); }
};

// relu becomes part of the product before it, and a max pool that of the convolution before it,
// where nothing else reads that product.
void fuse(PlanGraph& graph, std::int64_t element_bytes);

// Whether a loss of labels can be part of a pass: no node is foreign, and the output (N, classes)
// comes from the last.
bool takes_labels(const PlanGraph& graph);

}  // namespace pynn
