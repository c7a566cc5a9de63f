#include "kernels/relu.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void forward(std::int64_t size, const T* x, T* y) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = x[i] < T(0) ? T(0) : x[i];  // NaN stays NaN
}

template <typename T>
void backward(std::int64_t size, const T* dy, const T* y, T* dx) {
  for (std::int64_t i = 0; i < size; ++i) dx[i] = y[i] <= T(0) ? T(0) : dy[i];
}

}  // namespace

void get(ReluKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(ReluKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
