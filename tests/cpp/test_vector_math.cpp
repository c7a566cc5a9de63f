// exp, tanh, sigmoid and log of every instruction set against long double: special values, what
// lies around thresholds, and random numbers.
#include "vector_math.h"

#include <cstdint>
#include <cstring>
#include <random>

#include "check.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::test;  // NOLINT

template <typename T>
T next_after(T x, int steps) {
  for (; steps > 0; --steps) x = std::nextafter(x, std::numeric_limits<T>::infinity());
  for (; steps < 0; ++steps) x = std::nextafter(x, -std::numeric_limits<T>::infinity());
  return x;
}

template <typename T>
std::vector<T> samples() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> x;
  const auto add_both = [&](double value) {
    for (double sign : {1.0, -1.0})
      for (int steps = -40; steps <= 40; ++steps)
        x.push_back(next_after(static_cast<T>(sign * value), steps));
  };
  for (T value : {Limits::infinity(), Limits::max(), Limits::quiet_NaN()})
    x.insert(x.end(), {value, -value});
  add_both(0);
  add_both(static_cast<double>(Limits::min()));
  add_both(static_cast<double>(Limits::epsilon()));
  // Where a float's or a double's exp overflows, leaves the normal numbers, and vanishes; where
  // tanh and sigmoid round to 1; where tanh's argument is cut off.
  for (double value : {88.72283911, 87.33654475, 103.97207708, 709.782712893384, 708.3964185322641,
                       745.1332191019411, 9.010913, 17.32868, 19.06154746, 36.7368005697, 32.0})
    add_both(value);
  for (int k = -40; k <= 40; ++k) {
    add_both((k + 0.5) * std::log(2.0));      // exp's n changes
    add_both(std::ldexp(std::sqrt(0.5), k));  // log's k changes
    add_both(std::ldexp(1.0, k));
  }
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> large(-110, 110), middle(-20, 20), small(-1, 1);
  for (int i = 0; i < 60000; ++i) {
    for (double value : {large(random), middle(random), small(random), 1 + small(random) / 2})
      x.push_back(static_cast<T>(value));
    std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> bits = random();
    T any;
    std::memcpy(&any, &bits, sizeof any);
    x.push_back(any);
  }
  return x;
}

template <typename T>
void check_close() {
  const std::vector<T> x = samples<T>();
  const auto isas = loops_of_each_isa<T>();
  std::vector<T> y(x.size());
  std::vector<long double> expected(x.size());
  for (int f = 0; f < kFunctions; ++f) {
    const auto function = static_cast<Function>(f);
    for (std::size_t i = 0; i < x.size(); ++i)
      expected[i] = exact(function, static_cast<long double>(x[i]));
    for (const auto& [isa, table] : isas) {
      table.loop[f](static_cast<std::int64_t>(x.size()), x.data(), y.data());
      double largest = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (!in_domain(function, x[i])) continue;
        const double error = ulps(y[i], expected[i]);
        CHECK(error <= bound(function), isa, name(function), "of", x[i], "is", y[i], "wrong by",
              error, "ulp");
        largest = std::fmax(largest, error);
      }
      std::cout << "  " << isa << " " << name(function) << ": " << largest << " ulp" << std::endl;
      for (std::size_t i = 0; i < x.size(); i += 97) {  // a value's bits do not depend on its place
        T alone;
        table.loop[f](1, &x[i], &alone);
        CHECK(std::memcmp(&alone, &y[i], sizeof alone) == 0 || std::isnan(alone), isa,
              name(function), x[i]);
      }
    }
  }
}

template <typename T>
void check_special_values() {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  struct Case {
    Function function;
    T x, y;
  };
  for (const auto& [isa, table] : loops_of_each_isa<T>())
    for (const auto& [function, x, y] : std::vector<Case>{{kExp, 0, 1},
                                                          {kExp, -T(0), 1},
                                                          {kExp, infinity, infinity},
                                                          {kExp, -infinity, 0},
                                                          {kExpOfNonpositive, 0, 1},
                                                          {kExpOfNonpositive, -infinity, 0},
                                                          {kTanh, 0, 0},
                                                          {kTanh, -T(0), -T(0)},
                                                          {kTanh, infinity, 1},
                                                          {kTanh, -infinity, -1},
                                                          {kSigmoid, 0, T(0.5)},
                                                          {kSigmoid, infinity, 1},
                                                          {kSigmoid, -infinity, 0},
                                                          {kLog, 1, 0},
                                                          {kLog, 0, -infinity},
                                                          {kLog, -T(0), -infinity},
                                                          {kLog, infinity, infinity}}) {
      T got;
      table.loop[function](1, &x, &got);
      CHECK(got == y && std::signbit(got) == std::signbit(y), isa, name(function), x, got, y);
    }
}

}  // namespace

TEST(float32_is_close) { check_close<float>(); }
TEST(float64_is_close) { check_close<double>(); }
TEST(special_values) {
  check_special_values<float>();
  check_special_values<double>();
}

PYNN_TEST_MAIN
