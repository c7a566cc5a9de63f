// What a user may pass to cross_entropy: the one place that reads it.
#pragma once

#include "bindings/arrays.h"
#include "bindings/reduction.h"

namespace pynn {

struct CrossEntropyArguments {
  Reduction reduction;
  py::array logits;
  Shape shape;            // (N, C, ...)
  Shape positions_shape;  // (N, ...)
  std::int64_t classes, positions;
  std::optional<py::array> weight;  // (C,)
  bool integers;                    // the target holds labels, dense int64 (N, ...), or else
  py::array target;                 // probabilities, as logits
};

CrossEntropyArguments cross_entropy_arguments(py::handle logits, py::handle target,
                                              py::handle weight, double label_smoothing,
                                              std::optional<std::int64_t> ignore_index,
                                              const std::string& reduction);

}  // namespace pynn
