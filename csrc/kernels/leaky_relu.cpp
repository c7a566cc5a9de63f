#include "kernels/leaky_relu.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void forward(std::int64_t size, const T* x, T* y, T negative_slope) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = x[i] < T(0) ? x[i] * negative_slope : x[i];
}

template <typename T>
void backward(std::int64_t size, const T* dy, const T* x, T* dx, T negative_slope) {
  for (std::int64_t i = 0; i < size; ++i) dx[i] = x[i] > T(0) ? dy[i] : dy[i] * negative_slope;
}

}  // namespace

void get(LeakyReluKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(LeakyReluKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
