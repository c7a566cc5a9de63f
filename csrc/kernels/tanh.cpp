#include "kernels/tanh.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kBlock = 64;

// In three steps, each for the whole block: of one chain of operations as long as this, too few
// would be under way at once.
template <typename T>
PYNN_INLINE void block(std::int64_t size, const T* x, T* y) {
  T scale[kBlock], r[kBlock], q[kBlock];
  for (std::int64_t i = 0; i < size; ++i) {
    const Remainder<T> m = remainder_of(T(2) * x[i]);
    scale[i] = power_of_two(m.shifted);
    r[i] = m.r;
  }
  for (std::int64_t i = 0; i < size; ++i) q[i] = small_exp(r[i]);
  for (std::int64_t i = 0; i < size; ++i) y[i] = hyperbolic_tangent(x[i], scale[i], q[i]);
}

template <typename T>
void forward(std::int64_t size, const T* x, T* y) {
  for (; size >= kBlock; size -= kBlock, x += kBlock, y += kBlock) block(kBlock, x, y);
  block(size, x, y);
}

template <typename T>
void backward(std::int64_t size, const T* dy, const T* y, T* dx) {
  for (std::int64_t i = 0; i < size; ++i) dx[i] = dy[i] * (T(1) - y[i] * y[i]);
}

}  // namespace

void get(TanhKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(TanhKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
