#include "kernels/sigmoid.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void forward(std::int64_t size, const T* x, T* y) {
  for (std::int64_t i = 0; i < size; ++i) y[i] = logistic(x[i]);
}

template <typename T>
void backward(std::int64_t size, const T* dy, const T* y, T* dx) {
  for (std::int64_t i = 0; i < size; ++i) dx[i] = dy[i] * (y[i] * (T(1) - y[i]));
}

}  // namespace

void get(SigmoidKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(SigmoidKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
