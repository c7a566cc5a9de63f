#pragma once

#include "kernels/broadcast.h"

namespace pynn {

template <typename T>
struct AddKernels {
  // y = a + b in the rows begin ... end (s.rows() in all). Overwrites y.
  void (*forward)(const BroadcastShape& s, std::int64_t begin, std::int64_t end, const T* a,
                  const T* b, T* y);
  // da = the sum of dy over the broadcast axes, for the outputs begin ... end. Overwrites da.
  void (*backward)(const ReductionShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                   T* da);
};

}  // namespace pynn
