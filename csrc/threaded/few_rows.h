// Dense layers of a few samples on several threads.
#pragma once

#include <algorithm>

#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn::threaded {

// Up to so many rows, weights are better read as they lie than packed.
constexpr std::int64_t kFewRows = 15;

// In floating-point operations, roughly: reading a weight costs as much as some of them.
inline std::int64_t work_of(const FewRowsShape& s) {
  constexpr std::int64_t kWorkPerWeight = 8;
  return s.inputs * s.outputs * std::max(2 * s.rows, kWorkPerWeight);
}

// Calls function(begin, end) over 0 ... count outputs or inputs, for a pass over the weights.
template <typename Function>
void parallel_columns(const FewRowsShape& s, std::int64_t count, const Function& function) {
  constexpr std::int64_t kUnit = 64;
  const std::int64_t units = (count + kUnit - 1) / kUnit;
  parallel_for(units, work_of(s) / std::max<std::int64_t>(units, 1),
               [&](std::int64_t begin, std::int64_t end) {
                 function(begin * kUnit, std::min(end * kUnit, count));
               });
}

template <typename T>
void linear(const FewRowsShape& s, const T* x, const T* w, const T* b, bool relu, T* y) {
  parallel_columns(s, s.outputs, [&](std::int64_t begin, std::int64_t end) {
    isa_table<T>().few_rows.forward(s, begin, end, x, w, b, relu, y);
  });
}

template <typename T>
void linear_backward_input(const FewRowsShape& s, const T* dy, const T* w, const T* mask, T* dx) {
  parallel_columns(s, s.inputs, [&](std::int64_t begin, std::int64_t end) {
    isa_table<T>().few_rows.backward_input(s, begin, end, dy, w, mask, dx);
  });
}

template <typename T>
void linear_backward_weight(const FewRowsShape& s, const T* dy, const T* x, bool add,
                            const GradientStep<T>* step, T* dw) {
  parallel_columns(s, s.outputs, [&](std::int64_t begin, std::int64_t end) {
    isa_table<T>().few_rows.backward_weight(s, begin, end, dy, x, add, step, dw);
  });
}

}  // namespace pynn::threaded
