// exp, tanh, sigmoid and log for float and double, without branches, so that a loop over any of
// them becomes vector code. How close they stay to the true value, denormals included,
// tests/cpp/vector_math.h says; NaN and infinities as in libm.
//
// exp(x) = 2^n exp(r), with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2, ln 2 split in
// two so that n * kLn2High is exact (Cody and Waite, Software Manual for the Elementary Functions,
// 1980). exp(r) - 1 = r + r^2 P(r), P minimax; pairs of its terms come first (Estrin), because in a
// chain of dependent additions most of the time is waiting.
//
// log(x) = k ln 2 + log(1 + f), 1 + f between sqrt(1/2) and sqrt(2). With s = f / (2 + f),
// log(1 + f) = 2 s + s R(s^2) = f - (f^2 / 2 - s (f^2 / 2 + R(s^2))), R minimax.
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

template <typename To, typename From>
PYNN_INLINE To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof result);
  return result;
}

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
    const float r2 = r * r;
    const float p01 = multiply_add(0.16666667163f, r, 0.5f);
    const float p23 = multiply_add(0.008333273f, r, 0.041666355f);
    const float p45 = multiply_add(0.00019914229f, r, 0.001394105f);
    return multiply_add(multiply_add(p45, r2, p23), r2, p01);
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
    const double r2 = r * r, r4 = r2 * r2;
    const double p01 = multiply_add(0x1.5555555555559p-3, r, 0.5);
    const double p23 = multiply_add(0x1.111111110f699p-7, r, 0x1.555555555555ap-5);
    const double p45 = multiply_add(0x1.a01a01afeef45p-13, r, 0x1.6c16c16c1443bp-10);
    const double p67 = multiply_add(0x1.71ddf83859472p-19, r, 0x1.a01a01b0bde25p-16);
    const double p89 = multiply_add(0x1.af5ef2b33345cp-26, r, 0x1.27e4c591dee2ap-22);
    const double p8 = multiply_add(0x1.1f957aeb722b1p-29, r2, p89);
    const double p03 = multiply_add(p23, r2, p01), p47 = multiply_add(p67, r2, p45);
    return multiply_add(multiply_add(p8, r4, p47), r4, p03);
  }
};

// exp(x) = 2^n (1 + q), |x| below 2^20. The low bits of `shifted` = n + bias + kRound are the
// exponent of 2^n itself.
template <typename T>
struct ReducedExp {
  T n, shifted, q;
};

// x - n ln 2.
template <typename T>
struct Remainder {
  T n, shifted, r;
};

template <typename T>
PYNN_INLINE Remainder<T> remainder_of(T x) {
  using C = ExpConstants<T>;
  const T shifted = multiply_add(x, C::kLog2E, C::kRound + C::kBias);  // rounds to an integer
  const T n = shifted - (C::kRound + C::kBias);
  const T r = multiply_add(n, -C::kLn2High, x);
  return {n, shifted, multiply_add(n, -C::kLn2Low, r)};
}

// exp(r) - 1.
template <typename T>
PYNN_INLINE T small_exp(T r) {
  return multiply_add(r * r, ExpConstants<T>::polynomial(r), r);
}

template <typename T>
PYNN_INLINE ReducedExp<T> reduced_exp(T x) {
  const Remainder<T> m = remainder_of(x);
  return {m.n, m.shifted, small_exp(m.r)};
}

// 2^n, given n + bias + kRound, for n in the range of normal exponents.
template <typename T>
PYNN_INLINE T power_of_two(T shifted) {
  using C = ExpConstants<T>;
  return bits_as<T>(bits_as<typename C::Bits>(shifted) << C::kMantissaBits);
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

// tanh(x) = e / (e + 2), e = exp(2 x) - 1. Where it rounds to 1, e may be anything; where it is -0,
// e has lost the sign. The argument is not limited first: everything waits for what comes first.
template <typename T>
PYNN_INLINE T hyperbolic_tangent(T x, T scale, T q) {  // exp(2 x) = scale (1 + q)
  using Bits = typename ExpConstants<T>::Bits;
  const T e = multiply_add(scale, q, scale - T(1));
  const T quotient = e / (e + T(2));
  const T y = absolute(x) > T(20) ? T(1) : quotient;
  const Bits sign = bits_as<Bits>(x) & bits_as<Bits>(T(-0.0));
  return bits_as<T>(bits_as<Bits>(y) | sign);
}
template <typename T>
PYNN_INLINE T hyperbolic_tangent(T x) {
  const ReducedExp<T> reduced = reduced_exp(T(2) * x);
  return hyperbolic_tangent(x, power_of_two(reduced.shifted), reduced.q);
}

template <typename T>
PYNN_INLINE T logistic(T x) {
  const T e = exponential(-absolute(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

template <typename T>
struct LogConstants;

template <>
struct LogConstants<float> {
  static constexpr float kSmallestNormal = 0x1p-126f;
  static constexpr float kUnit = 0x1p23f;  // from here on floats are integers
  static constexpr std::uint32_t kOne = 0x3f800000, kRootOfHalf = 0x3f3504f3;  // bits of the values

  static PYNN_INLINE float polynomial(float z) {  // R(z) / z; error of R below 2^-29
    const float p = multiply_add(0x1.31e34ap-2f, z, 0x1.995eb6p-2f);
    return multiply_add(p, z, 0x1.55557ap-1f);
  }
};

template <>
struct LogConstants<double> {
  static constexpr double kSmallestNormal = 0x1p-1022;
  static constexpr double kUnit = 0x1p52;
  static constexpr std::uint64_t kOne = 0x3ff0000000000000, kRootOfHalf = 0x3fe6a09e667f3bcd;

  static PYNN_INLINE double polynomial(double z) {  // error of R below 2^-58
    const double z2 = z * z;
    const double p01 = multiply_add(0x1.999999997fd7ap-2, z, 0x1.5555555555592p-1);
    const double p23 = multiply_add(0x1.c71c520615de0p-3, z, 0x1.24924941f4e05p-2);
    const double p45 = multiply_add(0x1.39a1a70c4652ap-3, z, 0x1.74663fa07a01fp-3);
    const double p46 = multiply_add(0x1.2f0634596ccf8p-3, z2, p45);
    return multiply_add(multiply_add(p46, z2, p23), z2, p01);
  }
};

template <typename T>
PYNN_INLINE T natural_log(T x) {
  using E = ExpConstants<T>;
  using L = LogConstants<T>;
  using Bits = typename E::Bits;
  const bool is_denormal = x < L::kSmallestNormal;
  const T normal = is_denormal ? x * L::kUnit : x;
  const Bits moved = bits_as<Bits>(normal) + (L::kOne - L::kRootOfHalf);
  // The exponent, put into the mantissa of kUnit: integers of 64 bits have no conversion on AVX2.
  const T exponent =
      bits_as<T>((moved >> E::kMantissaBits) | bits_as<Bits>(L::kUnit)) - (L::kUnit + E::kBias);
  const T k = is_denormal ? exponent - T(E::kMantissaBits) : exponent;
  constexpr Bits kMantissa = (Bits(1) << E::kMantissaBits) - 1;
  const T f = bits_as<T>((moved & kMantissa) + L::kRootOfHalf) - T(1);
  const T s = f / (T(2) + f), z = s * s, half_square = T(0.5) * f * f;
  const T r = z * L::polynomial(z);
  const T low = multiply_add(s, half_square + r, k * E::kLn2Low);
  const T y = multiply_add(k, E::kLn2High, f - (half_square - low));
  const T infinity = __builtin_inf();
  const T of_nonpositive = x == T(0) ? -infinity : T(__builtin_nan(""));
  return x > T(0) ? (x < infinity ? y : infinity) : of_nonpositive;
}

}  // namespace
}  // namespace pynn::PYNN_ISA
