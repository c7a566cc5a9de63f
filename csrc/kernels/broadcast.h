// Plain descriptions of broadcast arrays; shapes/broadcast.h makes them.
#pragma once

#include <cstdint>

namespace pynn {

constexpr int kMaxAxes = 8;

// One or two arrays walked over together: sizes and, in elements, the strides of each; the last
// axis fastest.
struct Axes {
  int count = 0;
  std::int64_t size[kMaxAxes];
  std::int64_t a[kMaxAxes], b[kMaxAxes];
};

// y = a op b, y dense. The last axis has strides 0 or 1.
struct BroadcastShape {
  Axes axes;  // at least one
  std::int64_t rows() const {
    std::int64_t rows = 1;
    for (int i = 0; i + 1 < axes.count; ++i) rows *= axes.size[i];
    return rows;
  }
};

// da[kept] = the sum over `summed` of dy op b; the strides a are those of dy. da is dense.
struct ReductionShape {
  Axes kept, summed;
  std::int64_t outputs() const {
    std::int64_t outputs = 1;
    for (int i = 0; i < kept.count; ++i) outputs *= kept.size[i];
    return outputs;
  }
};

}  // namespace pynn
