#include "kernels/elementary.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void exp(std::int64_t size, const T* x, T* y) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = exponential(x[i]);
}

template <typename T>
void log(std::int64_t size, const T* x, T* y) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = natural_log(x[i]);
}

}  // namespace

void get(ElementaryKernels<float>& k) { k = {exp<float>, log<float>}; }
void get(ElementaryKernels<double>& k) { k = {exp<double>, log<double>}; }

}  // namespace pynn::PYNN_ISA
