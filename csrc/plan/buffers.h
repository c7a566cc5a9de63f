// The memory of a plan's values: which have some, and when.
#pragma once

#include "plan/segments.h"

namespace pynn {

// A buffer for each value that the plan keeps, and for each gradient, alive as long as nodes read
// and write it; what their stages keep for the backward pass is up to them.
Arena add_buffers(const PlanGraph& graph, const std::vector<Segment>& segments,
                  std::int64_t element_bytes, std::vector<Value>& values);

}  // namespace pynn
