// exp, tanh and sigmoid for float and double, without branches, so that a loop over any of them
// becomes vector code. They stay within 1 ulp (exp) and 2.6 ulp (tanh, sigmoid) of the true value,
// denormals included; NaN and infinities as in libm.
//
// exp(x) = 2^n exp(r), with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2, ln 2 split in
// two so that n * kLn2High is exact (Cody and Waite, Software Manual for the Elementary Functions,
// 1980). exp(r) - 1 = r + r^2 P(r), P minimax.
#pragma once

#include <cstdint>

namespace pynn::PYNN_ISA {
namespace {

#define PYNN_INLINE inline __attribute__((always_inline))

template <typename T>
PYNN_INLINE T multiply_add(T a, T b, T c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  if constexpr (sizeof(T) == 4) return __builtin_fmaf(a, b, c);
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

PYNN_INLINE float absolute(float x) { return __builtin_fabsf(x); }
PYNN_INLINE double absolute(double x) { return __builtin_fabs(x); }
PYNN_INLINE float copy_sign(float x, float sign) { return __builtin_copysignf(x, sign); }
PYNN_INLINE double copy_sign(double x, double sign) { return __builtin_copysign(x, sign); }
PYNN_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
PYNN_INLINE double square_root(double x) { return __builtin_sqrt(x); }
// These two are libm's: for one value in a row, not for every element.
PYNN_INLINE float natural_log(float x) { return __builtin_logf(x); }
PYNN_INLINE double natural_log(double x) { return __builtin_log(x); }

template <typename T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = std::uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr float kBias = 127;
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer
  static constexpr float kLog2E = 0x1.715476p0f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kOverflow = 89,
                         kUnderflow = -104;  // exp is infinite, or rounds to 0, from here on
  static constexpr float kSmallestNormal = -87.33654f;  // its logarithm, rounded towards 0

  static PYNN_INLINE float polynomial(float r) {  // relative error of r + r^2 P(r) below 2^-31
    float p = 0.00019914229f;
    p = multiply_add(p, r, 0.001394105f);
    p = multiply_add(p, r, 0.008333273f);
    p = multiply_add(p, r, 0.041666355f);
    p = multiply_add(p, r, 0.16666667163f);
    return multiply_add(p, r, 0.5f);
  }
};

template <>
struct ExpConstants<double> {
  using Bits = std::uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr double kBias = 1023;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLog2E = 0x1.71547652b82fep0;
  static constexpr double kLn2High = 6.93147180369123816490e-01,
                          kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kOverflow = 710, kUnderflow = -746;
  static constexpr double kSmallestNormal = -708.3964185322641;

  static PYNN_INLINE double polynomial(double r) {  // relative error below 2^-61
    double p = 0x1.1f957aeb722b1p-29;
    p = multiply_add(p, r, 0x1.af5ef2b33345cp-26);
    p = multiply_add(p, r, 0x1.27e4c591dee2ap-22);
    p = multiply_add(p, r, 0x1.71ddf83859472p-19);
    p = multiply_add(p, r, 0x1.a01a01b0bde25p-16);
    p = multiply_add(p, r, 0x1.a01a01afeef45p-13);
    p = multiply_add(p, r, 0x1.6c16c16c1443bp-10);
    p = multiply_add(p, r, 0x1.111111110f699p-7);
    p = multiply_add(p, r, 0x1.555555555555ap-5);
    p = multiply_add(p, r, 0x1.5555555555559p-3);
    return multiply_add(p, r, 0.5);
  }
};

// exp(x) = 2^n (1 + q), |x| below 2^20. The low bits of `shifted` = n + bias + kRound are the
// exponent of 2^n itself.
template <typename T>
struct ReducedExp {
  T n, shifted, q;
};

template <typename T>
PYNN_INLINE ReducedExp<T> reduced_exp(T x) {
  using C = ExpConstants<T>;
  const T shifted = multiply_add(x, C::kLog2E, C::kRound + C::kBias);  // rounds to an integer
  const T n = shifted - (C::kRound + C::kBias);
  T r = multiply_add(n, -C::kLn2High, x);
  r = multiply_add(n, -C::kLn2Low, r);
  return {n, shifted, multiply_add(r * r, C::polynomial(r), r)};
}

// 2^n, given n + bias + kRound, for n in the range of normal exponents.
template <typename T>
PYNN_INLINE T power_of_two(T shifted) {
  using C = ExpConstants<T>;
  typename C::Bits bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits <<= C::kMantissaBits;
  T power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power;
}

template <typename T>
PYNN_INLINE T exponential(T x) {
  using C = ExpConstants<T>;
  x = x > C::kOverflow ? C::kOverflow : x;  // both comparisons leave NaN alone
  x = x < C::kUnderflow ? C::kUnderflow : x;
  const ReducedExp<T> e = reduced_exp(x);
  const T first = multiply_add(e.n, T(0.5),
                               C::kRound + C::kBias);  // 2^n in two factors: it may be out of range
  const T half = first - (C::kRound + C::kBias);
  return (T(1) + e.q) * power_of_two(first) * power_of_two(e.shifted - half);
}

// The same for x <= 0, cheaper: below the smallest normal number it is 0.
template <typename T>
PYNN_INLINE T exponential_of_nonpositive(T x) {
  const ReducedExp<T> e = reduced_exp(x);
  const T scale = power_of_two(e.shifted);
  return x < ExpConstants<T>::kSmallestNormal ? T(0) : multiply_add(scale, e.q, scale);
}

// exp(x) - 1 for x <= 0, with small relative error.
template <typename T>
PYNN_INLINE T expm1_of_nonpositive(T x) {
  const ReducedExp<T> e = reduced_exp(x < T(-64) ? T(-64) : x);
  const T scale = power_of_two(e.shifted);
  return multiply_add(scale, e.q, scale - T(1));
}

template <typename T>
PYNN_INLINE T hyperbolic_tangent(T x) {
  const T e = expm1_of_nonpositive(T(-2) * absolute(x));
  return copy_sign(-e / (T(2) + e), x);
}

template <typename T>
PYNN_INLINE T logistic(T x) {
  const T e = exponential_of_nonpositive(-absolute(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

}  // namespace
}  // namespace pynn::PYNN_ISA
