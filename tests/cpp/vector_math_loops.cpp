#include "vector_math_loops.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T, T (*function)(T)>
void loop(std::int64_t size, const T* x, T* y) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = function(x[i]);
}

template <typename T>
LoopTable<T> table() {
  return {{loop<T, exponential<T>>, loop<T, exponential_of_nonpositive<T>>,
           loop<T, hyperbolic_tangent<T>>, loop<T, logistic<T>>, loop<T, natural_log<T>>}};
}

}  // namespace

void get(LoopTable<float>& loops) { loops = table<float>(); }
void get(LoopTable<double>& loops) { loops = table<double>(); }

}  // namespace pynn::PYNN_ISA
