#include "kernels/sigmoid.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kBlock = 64;

// In steps, as tanh.
template <typename T>
PYNN_INLINE void block(std::int64_t size, const T* x, T* y) {
  T n[kBlock], shifted[kBlock], r[kBlock], q[kBlock];
  for (std::int64_t i = 0; i < size; ++i) {
    const Remainder<T> m = remainder_of(logistic_exponent(x[i]));
    n[i] = m.n;
    shifted[i] = m.shifted;
    r[i] = m.r;
  }
  for (std::int64_t i = 0; i < size; ++i) q[i] = small_exp(r[i]);
  for (std::int64_t i = 0; i < size; ++i)
    y[i] = logistic(x[i], ReducedExp<T>{n[i], shifted[i], q[i]});
}

template <typename T>
void forward(std::int64_t size, const T* x, T* y) {
  for (; size >= kBlock; size -= kBlock, x += kBlock, y += kBlock) block(kBlock, x, y);
  block(size, x, y);
}

template <typename T>
void backward(std::int64_t size, const T* dy, const T* y, T* dx) {
  for (std::int64_t i = 0; i < size; ++i) dx[i] = dy[i] * (y[i] * (T(1) - y[i]));
}

}  // namespace

void get(SigmoidKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(SigmoidKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
