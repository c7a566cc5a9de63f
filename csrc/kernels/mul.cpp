#include "kernels/mul.h"

#include "simd/broadcast.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void forward(const BroadcastShape& s, std::int64_t begin, std::int64_t end, const T* a, const T* b,
             T* y) {
  broadcast(s, begin, end, a, b, y, [](T left, T right) { return left * right; });
}

template <typename T>
void backward(const ReductionShape& s, std::int64_t begin, std::int64_t end, const T* dy,
              const T* b, T* da) {
  reduce(s, begin, end, da,
         [=](std::int64_t i, std::int64_t j) { return double(dy[i]) * double(b[j]); });
}

}  // namespace

void get(MulKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(MulKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
