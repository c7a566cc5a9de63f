// gemm and the three products of a dense layer.
#include "activations.h"
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/linear.h"
#include "device_runs.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::cuda;  // NOLINT
using namespace pynn::test;  // NOLINT

double rounded_to(Precision precision, float x) {
  if (precision == Precision::fp32 || !std::isfinite(x)) return x;
  const int bits =
      precision == Precision::tf32 ? 11 : 8;  // of the mantissa, the leading 1 included
  int exponent;
  const double fraction = std::frexp(static_cast<double>(x), &exponent);
  const double scaled = std::ldexp(fraction, bits);
  // tf32 rounds ties away from zero, bfloat16 to even.
  const double whole = precision == Precision::tf32 ? std::round(scaled) : std::nearbyint(scaled);
  return std::ldexp(whole, exponent - bits);
}
double rounded_to(Precision, double x) { return x; }

template <typename T>
void check_gemm(GemmShape s, bool a_transposed, bool b_transposed, bool y_transposed, bool add,
                Precision precision) {
  s.a_row = a_transposed ? 1 : s.K, s.a_column = a_transposed ? s.M : 1, s.a_batch = s.M * s.K;
  s.b_row = b_transposed ? 1 : s.N, s.b_column = b_transposed ? s.K : 1, s.b_batch = s.K * s.N;
  s.y_row = y_transposed ? 1 : s.N, s.y_column = y_transposed ? s.M : 1, s.y_batch = s.M * s.N;
  const std::string name =
      message("gemm ", s.M, " ", s.N, " ", s.K, " batch ", s.batch, " ", a_transposed, b_transposed,
              y_transposed, add, " precision ", static_cast<int>(precision), " bytes ", sizeof(T));
  Random random(1);
  const auto a = random.values<T>(s.batch * s.M * s.K), b = random.values<T>(s.batch * s.K * s.N);
  const auto before = random.values<T>(s.batch * s.M * s.N);
  std::vector<Expected> expected(before.size());
  for (std::int64_t z = 0; z < s.batch; ++z)
    for (std::int64_t i = 0; i < s.M; ++i)
      for (std::int64_t j = 0; j < s.N; ++j) {
        const std::size_t place = at(z * s.y_batch + i * s.y_row + j * s.y_column);
        Expected& sum = expected[place];
        if (add) sum.add(static_cast<double>(before[place]));
        for (std::int64_t k = 0; k < s.K; ++k)
          sum.add(rounded_to(precision, a[at(z * s.a_batch + i * s.a_row + k * s.a_column)]) *
                  rounded_to(precision, b[at(z * s.b_batch + k * s.b_row + j * s.b_column)]));
      }
  const auto device = run_alike(name, [&](Device& d) {
    gemm(s, precision, d.input(a), d.input(b), add, d.updated(before), d.stream());
  });
  compare(name, device->template result<T>(0), expected, static_cast<double>(s.K) + 3);
}

TEST(products_of_matrices) {
  const std::int64_t shapes[][4] = {// M, N, K, batch
                                    {1, 1, 1, 1},     {7, 5, 3, 1},    {16, 32, 16, 1},
                                    {17, 33, 129, 1}, {33, 31, 40, 3}, {5, 70, 260, 2},
                                    {40, 4, 0, 1},    {0, 3, 2, 1},    {3, 0, 2, 1},
                                    {2, 3, 4, 0},     {70, 36, 19, 1}};
  for (const auto& s : shapes)
    for (const int layout : {0, 1, 2, 3, 4}) {
      GemmShape shape;
      shape.M = s[0], shape.N = s[1], shape.K = s[2], shape.batch = s[3];
      const bool a = layout == 1 || layout == 3, b = layout == 2 || layout == 3;
      check_gemm<float>(shape, a, b, layout == 4, layout % 2 == 1, Precision::fp32);
      check_gemm<double>(shape, a, b, layout == 4, layout % 2 == 1, Precision::fp32);
      check_gemm<float>(shape, a, b, layout == 4, false, Precision::tf32);
      check_gemm<float>(shape, a, b, layout == 4, false, Precision::bf16);
    }
}

TEST(products_with_tiles_of_32_rows) {  // which enough products at once get
  for (const int layout : {0, 1, 2, 3}) {
    GemmShape shape;
    shape.M = 33, shape.N = 31, shape.K = 40, shape.batch = 66;
    check_gemm<float>(shape, layout & 1, layout & 2, false, layout == 1, Precision::fp32);
    check_gemm<float>(shape, layout & 1, layout & 2, false, layout == 1, Precision::bf16);
  }
}

TEST(products_with_large_tiles) {  // which many products at once get
  for (const int layout : {0, 1, 2, 3}) {
    GemmShape shape;
    shape.M = 131, shape.N = 68, shape.K = 37, shape.batch = 25;
    check_gemm<float>(shape, layout & 1, layout & 2, false, layout == 1, Precision::fp32);
    check_gemm<float>(shape, layout & 1, layout & 2, false, layout == 1, Precision::tf32);
  }
}

TEST(precision_rounds_the_factors_alone) {
  // 1 + 2^-11 is no tf32 number, and its nearest is 1 + 2^-10; of bfloat16 it is 1.
  const std::vector<float> a{1 + 0x1p-11f}, b{1};
  GemmShape s;
  s.M = s.N = s.K = 1;
  for (const auto& [precision, expected] :
       {std::pair{Precision::fp32, 1 + 0x1p-11f}, std::pair{Precision::tf32, 1 + 0x1p-10f},
        std::pair{Precision::bf16, 1.0f}}) {
    const auto device = run_alike("rounding", [&, p = precision](Device& d) {
      gemm(s, p, d.input(a), d.input(b), false, d.output<float>(1), d.stream());
    });
    compare_exactly("rounding", device->result<float>(0), {expected});
  }
}

template <typename T>
void check_linear(const LinearShape& s, const Activation& activation, bool bias, bool add,
                  Precision precision) {
  const std::string name =
      message("linear ", s.N, " x ", s.in, " -> ", s.out, " activation ",
              static_cast<int>(activation.kind), " precision ", static_cast<int>(precision));
  Random random(2);
  const auto x = random.values<T>(s.in * s.N), w = random.values<T>(s.out * s.in);
  const auto b = random.values<T>(s.out), dy = random.values<T>(s.out * s.N);
  const auto at_x = random.values<T>(s.in * s.N), dx = random.values<T>(s.in * s.N);
  const auto dw = random.values<T>(s.out * s.in), db = random.values<T>(s.out);
  const auto r = [&](T value) { return rounded_to(precision, value); };
  std::vector<Expected> y_expected(dy.size()), dx_expected(dx.size()), dw_expected(dw.size()),
      db_expected(db.size());
  for (std::int64_t o = 0; o < s.out; ++o)
    for (std::int64_t n = 0; n < s.N; ++n) {
      Expected sum;
      if (bias) sum.add(static_cast<double>(b[at(o)]));
      for (std::int64_t i = 0; i < s.in; ++i)
        sum.add(r(w[at(o * s.in + i)]) * r(x[at(i * s.N + n)]));
      y_expected[at(o * s.N + n)] = sum.through(activated(activation, sum.value));
      db_expected[at(o)].add(static_cast<double>(dy[at(o * s.N + n)]));
    }
  for (std::int64_t i = 0; i < s.in; ++i)
    for (std::int64_t n = 0; n < s.N; ++n) {
      Expected sum;
      for (std::int64_t o = 0; o < s.out; ++o)
        sum.add(r(w[at(o * s.in + i)]) * r(dy[at(o * s.N + n)]));
      const std::size_t place = at(i * s.N + n);
      Expected& result = dx_expected[place] =
          sum.through(activated_backward(activation, sum.value, static_cast<double>(at_x[place])));
      if (add) result.add(static_cast<double>(dx[place]));
    }
  for (std::int64_t o = 0; o < s.out; ++o)
    for (std::int64_t i = 0; i < s.in; ++i) {
      Expected& sum = dw_expected[at(o * s.in + i)];
      if (add) sum.add(static_cast<double>(dw[at(o * s.in + i)]));
      for (std::int64_t n = 0; n < s.N; ++n)
        sum.add(r(dy[at(o * s.N + n)]) * r(x[at(i * s.N + n)]));
    }
  if (add)
    for (std::int64_t o = 0; o < s.out; ++o) db_expected[at(o)].add(static_cast<double>(db[at(o)]));
  const auto device = run_alike(name, [&](Device& d) {
    const T *const x_ = d.input(x), *const w_ = d.input(w), *const dy_ = d.input(dy);
    linear_forward(s, precision, x_, w_, bias ? d.input(b) : nullptr, activation,
                   d.output<T>(s.out * s.N), d.stream());
    linear_backward_input(s, precision, dy_, w_, activation, d.input(at_x), add, d.updated(dx),
                          d.stream());
    T* const dw_ = d.updated(dw);
    linear_backward_weight(s, precision, dy_, x_, add, dw_, d.updated(db), d.stream());
    linear_backward_weight(s, precision, dy_, x_, false, d.output<T>(s.out * s.in),
                           static_cast<T*>(nullptr), d.stream());
  });
  compare(name + " y", device->template result<T>(0), y_expected, static_cast<double>(s.in) + 8);
  compare(name + " dx", device->template result<T>(1), dx_expected, static_cast<double>(s.out) + 8);
  compare(name + " dw", device->template result<T>(2), dw_expected, static_cast<double>(s.N) + 3);
  compare(name + " db", device->template result<T>(3), db_expected, static_cast<double>(s.N) + 3);
}

TEST(dense_layers) {
  const LinearShape shapes[] = {{1, 1, 1},    {1, 13, 5},   {37, 20, 10},
                                {64, 33, 17}, {3, 130, 70}, {100, 784, 10},
                                {0, 5, 3},    {4, 0, 3},    {4, 5, 0}};
  for (const LinearShape& s : shapes)
    for (const Activation& activation : kActivations) {
      const bool other = activation.kind == Activation::Kind::relu;
      check_linear<float>(s, activation, !other, other, Precision::fp32);
      check_linear<double>(s, activation, !other, other, Precision::fp32);
      if (other) check_linear<float>(s, activation, true, other, Precision::tf32);
    }
}

TEST(infinities_and_nan_reach_what_they_belong_to) {
  const LinearShape s{3, 2, 2};
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const std::vector<float> x{1, inf, nan, 1, 1, 1}, w{1, 1, -1, 1};
  const auto device = run_alike("infinities", [&](Device& d) {
    linear_forward(s, Precision::fp32, d.input(x), d.input(w), static_cast<const float*>(nullptr),
                   Activation{Activation::Kind::relu}, d.output<float>(6), d.stream());
  });
  compare_exactly("infinities", device->result<float>(0), {2, inf, nan, 0, 0, nan});
}

}  // namespace

PYNN_TEST_MAIN
