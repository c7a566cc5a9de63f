// What the bindings of losses share.
#pragma once

#include <string>

#include "bindings/arrays.h"

namespace pynn {

enum class Reduction { kMean, kSum, kNone };

inline Reduction to_reduction(const std::string& name) {
  if (name == "mean") return Reduction::kMean;
  if (name == "sum") return Reduction::kSum;
  if (name == "none") return Reduction::kNone;
  throw std::invalid_argument("reduction must be 'mean', 'sum' or 'none', got '" + name + "'");
}

}  // namespace pynn
