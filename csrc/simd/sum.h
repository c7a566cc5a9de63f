// Sums in double, in an order that neither the threads nor the instruction set change.
#pragma once

#include <cstdint>

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
inline double sum_in_double(std::int64_t size, const T* x) {
  constexpr int lanes = 8;
  double partial[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes)
    for (int lane = 0; lane < lanes; ++lane) partial[lane] += static_cast<double>(x[i + lane]);
  for (int lane = 0; i + lane < size; ++lane) partial[lane] += static_cast<double>(x[i + lane]);
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
  return partial[0];
}

}  // namespace
}  // namespace pynn::PYNN_ISA
