#include "kernels/sum_of_squares.h"

#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
double sum_of_squares(std::int64_t size, const T* g) {
  return sum<double>(size, [=](std::int64_t i) { return double(g[i]) * double(g[i]); });
}

}  // namespace

void get(SumOfSquaresKernels<float>& k) { k = {sum_of_squares<float>}; }
void get(SumOfSquaresKernels<double>& k) { k = {sum_of_squares<double>}; }

}  // namespace pynn::PYNN_ISA
