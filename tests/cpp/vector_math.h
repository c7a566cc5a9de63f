// How far the functions of csrc/simd/math.h are from the true values.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "simd/isa_table.h"
#include "vector_math_loops.h"

namespace pynn::test {

template <typename T>
struct IsaLoops {
  std::string isa;
  LoopTable<T> table;
};

template <typename T>
std::vector<IsaLoops<T>> loops_of_each_isa() {
  std::vector<IsaLoops<T>> all;
  for (const std::string& isa : available_isas()) {
    all.push_back({isa, {}});
    LoopTable<T>& table = all.back().table;
#ifdef PYNN_HAVE_avx512
    if (isa == "avx512") avx512::get(table);
#endif
#ifdef PYNN_HAVE_avx2
    if (isa == "avx2") avx2::get(table);
#endif
    if (isa == "baseline") baseline::get(table);
  }
  return all;
}

inline const char* name(Function function) {
  constexpr const char* names[]{"exp", "exp of x <= 0", "tanh", "sigmoid", "log"};
  return names[function];
}

// The largest error allowed, in units in the last place.
inline double bound(Function function) {
  return function == kTanh || function == kSigmoid ? 3 : 1.5;
}

// The true value, in a wider type.
template <typename Wide>
Wide exact(Function function, Wide x) {
  switch (function) {
    case kTanh:
      return std::tanh(x);
    case kSigmoid:
      return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
    case kLog:
      return std::log(x);
    default:
      return std::exp(x);
  }
}

// Whether the function promises anything of x: exp of x <= 0 is 0 where the true value is too small
// for a normal number.
template <typename T>
bool in_domain(Function function, T x) {
  return function != kExpOfNonpositive || (x <= 0 && std::exp(x) > std::numeric_limits<T>::min());
}

// |got - expected| in units in the last place of T at `expected`. Infinity counts as the number
// that would come after the largest.
template <typename T, typename Wide>
double ulps(T got, Wide expected) {
  using Limits = std::numeric_limits<T>;
  if (std::isnan(got) || std::isnan(expected))
    return std::isnan(got) == std::isnan(expected) ? 0 : INFINITY;
  const Wide infinite = std::ldexp(Wide(1), Limits::max_exponent);
  const auto limited = [=](Wide value) { return std::fmin(std::fmax(value, -infinite), infinite); };
  const Wide difference = std::fabs(limited(got) - limited(expected));
  if (difference == 0) return 0;
  int exponent = 0;
  std::frexp(limited(expected), &exponent);
  if (expected == 0 || exponent < Limits::min_exponent) exponent = Limits::min_exponent;
  return static_cast<double>(std::ldexp(difference, Limits::digits - exponent));
}

}  // namespace pynn::test
