#include "kernels/peak.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr int kChains = 12;  // enough to cover latency times ports, and few enough for 16 registers

template <typename T>
T fma_loop(std::int64_t iterations, std::int64_t* operations) {
  Vector<T> sum[kChains];
  const Vector<T> scale = broadcast(T(0.999999)), shift = broadcast(T(1e-6));
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast(T(i));
  for (std::int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sum[i] = fma(sum[i], scale, shift);
  *operations = 2 * iterations * kChains * kLanes<T>;
  T total = T(0);
  for (int i = 0; i < kChains; ++i)
    for (int lane = 0; lane < kLanes<T>; ++lane) total += sum[i][lane];
  return total;
}

}  // namespace

void get(PeakKernels<float>& k) { k = {fma_loop<float>}; }
void get(PeakKernels<double>& k) { k = {fma_loop<double>}; }

}  // namespace pynn::PYNN_ISA
