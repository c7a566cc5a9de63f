// What a plan knows of the values of its graph.
#pragma once

#include <vector>

#include "plan/layout.h"

namespace pynn {

// The members that are buffers are numbers in the arena; -1 where the plan keeps none.
struct Value {
  Shape shape;
  Layout layout;           // of its data
  Layout gradient_layout;  // without the halo
  bool stored = false;     // a parameter, buffer or constant: its memory is the caller's
  bool input = false;      // an input of the graph
  int rows = -1;           // the input whose elements these are, in this shape perhaps
  bool in_blocks = false;  // whether it is wanted in blocks of samples
  bool needed = false;     // whether its gradient is wanted
  bool reached = false;    // whether the output depends on it, on the way backward
  bool is_output = false;
  bool relu = false;    // it is the result of a product with relu
  bool masked = false;  // whoever writes its gradient does relu's part of the backward pass
  int data = -1;
  int gradient = -1;
  int gradients_read = 0;  // how many stages add to its gradient

  // Whether the node that it comes from has a backward pass.
  bool has_gradient() const { return needed && reached; }
};

struct PlanGraph;

// Whether values lie in blocks of samples: of so few that lanes would be too empty, they are
// arrays.
bool in_blocks(const PlanGraph& graph);

// All but the buffers.
std::vector<Value> values_of(const PlanGraph& graph, std::int64_t element_bytes);

}  // namespace pynn
