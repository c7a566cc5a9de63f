#include <algorithm>

#include "activations.h"
#include "cuda/kernels/conv2d.h"
#include "cuda/kernels/optimizer.h"
#include "device_runs.h"
#include "shapes/window.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::cuda;  // NOLINT
using namespace pynn::test;  // NOLINT

struct Case {
  const char* name;
  Shape x, w;  // (N, C, H, W), (O, C/groups, KH, KW)
  Pair stride{1, 1};
  std::array<std::int64_t, 4> padding{};
  Pair dilation{1, 1};
  std::int64_t groups = 1;
};

const Case kCases[] = {
    {"one_pixel", {1, 1, 1, 1}, {1, 1, 1, 1}},
    {"odd_sizes", {3, 3, 7, 5}, {5, 3, 3, 2}},
    {"padded", {1, 2, 8, 8}, {3, 2, 3, 3}, {1, 1}, {1, 1, 1, 1}},
    {"batch_37", {37, 1, 6, 6}, {2, 1, 3, 3}, {1, 1}, {1, 1, 1, 1}},
    {"stride_rectangular", {2, 3, 9, 8}, {4, 3, 3, 2}, {3, 2}, {1, 1, 0, 0}},
    {"stride_over_kernel", {1, 2, 9, 9}, {2, 2, 2, 2}, {4, 4}},
    {"four_sides", {2, 2, 5, 4}, {3, 2, 3, 3}, {1, 1}, {2, 0, 1, 3}},
    {"full", {2, 4, 8, 8}, {1, 4, 5, 5}, {1, 1}, {4, 4, 4, 4}},
    {"dilation", {2, 2, 11, 9}, {2, 2, 3, 2}, {2, 1}, {1, 1, 2, 2}, {2, 3}},
    {"groups", {3, 4, 6, 6}, {6, 2, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 2},
    {"depthwise", {2, 5, 6, 5}, {5, 1, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 5},
    {"one_by_one", {2, 6, 5, 4}, {3, 6, 1, 1}},
    {"many_channels", {2, 70, 4, 4}, {19, 70, 3, 3}, {1, 1}, {1, 1, 1, 1}},
    {"many_taps", {1, 2, 25, 24}, {2, 2, 23, 23}},
    {"many_positions", {33, 2, 9, 9}, {18, 2, 3, 3}, {1, 1}, {1, 1, 1, 1}},
    {"empty_batch", {0, 2, 5, 5}, {3, 2, 3, 3}},
};

template <typename T>
class Convolution {
 public:
  explicit Convolution(const Case& c)
      : s(conv2d_shape(c.x, c.w, std::nullopt, c.stride, {Padding::Kind::sides, c.padding},
                       c.dilation, c.groups)),
        O_(s.O / s.groups),
        C_(s.C / s.groups) {
    Random random(3);
    x = random.values<T>(element_count(c.x));
    w = random.values<T>(element_count(c.w));
    b = random.values<T>(s.O);
    dy = random.values<T>(element_count(output_shape(s)));
    at_x = random.values<T>(element_count(c.x));
    dx = random.values<T>(element_count(c.x));
    y.resize(dy.size()), dx_.resize(dx.size()), dw.resize(w.size()), db.resize(b.size());
    const Window& v = s.window;
    const std::int64_t N = s.N;
    for (std::int64_t o = 0; o < s.O; ++o)
      for (std::int64_t oh = 0; oh < v.OH; ++oh)
        for (std::int64_t ow = 0; ow < v.OW; ++ow)
          for (std::int64_t n = 0; n < N; ++n) {
            const std::size_t out = at(((o * v.OH + oh) * v.OW + ow) * N + n);
            y[out].add(static_cast<double>(b[at(o)]));
            db[at(o)].add(static_cast<double>(dy[out]));
            for (std::int64_t c_ = 0; c_ < C_; ++c_)
              for (std::int64_t kh = 0; kh < v.KH; ++kh)
                for (std::int64_t kw = 0; kw < v.KW; ++kw) {
                  const std::int64_t h = oh * v.stride_h - v.top + kh * v.dilation_h;
                  const std::int64_t q = ow * v.stride_w - v.left + kw * v.dilation_w;
                  if (h < 0 || h >= v.H || q < 0 || q >= v.W) continue;
                  const std::int64_t channel = o / O_ * C_ + c_;
                  const std::size_t in = at(((channel * v.H + h) * v.W + q) * N + n);
                  const std::size_t weight = at(((o * C_ + c_) * v.KH + kh) * v.KW + kw);
                  y[out].add(double(x[in]) * double(w[weight]));
                  dx_[in].add(double(dy[out]) * double(w[weight]));
                  dw[weight].add(double(dy[out]) * double(x[in]));
                }
          }
  }

  std::vector<Expected> y_after(const Activation& activation) const {
    std::vector<Expected> result = y;
    for (Expected& value : result) value = value.through(activated(activation, value.value));
    return result;
  }
  std::vector<Expected> dx_before(const Activation& activation, bool add) const {
    std::vector<Expected> result = dx_;
    for (std::size_t i = 0; i < result.size(); ++i) {
      const double at_i = static_cast<double>(at_x[i]);
      result[i] = result[i].through(activated_backward(activation, result[i].value, at_i));
      if (add) result[i].add(static_cast<double>(dx[i]));
    }
    return result;
  }
  double forward_terms() const { return static_cast<double>(C_ * taps()) + 8; }
  double backward_terms() const { return static_cast<double>(O_ * taps()) + 8; }
  double weight_terms() const { return static_cast<double>(s.N * s.window.OH * s.window.OW) + 8; }
  std::int64_t taps() const { return s.window.KH * s.window.KW; }

  const Conv2dShape s;
  std::vector<T> x, w, b, dy, at_x, dx;
  std::vector<Expected> y, dx_, dw, db;

 private:
  const std::int64_t O_, C_;
};

// roundings: those of the factors, beside those of the sums.
template <typename T>
void check_convolution(const Case& test, Precision precision, double roundings) {
  const Convolution<T> c(test);
  const Conv2dShape& s = c.s;
  for (const Activation& activation : kActivations) {
    const bool add = activation.kind == Activation::Kind::relu, bias = !add;
    const std::string name = message(test.name, " activation ", static_cast<int>(activation.kind),
                                     " precision ", static_cast<int>(precision));
    auto y = c.y;
    if (!bias) {
      for (std::int64_t o = 0, i = 0; o < s.O; ++o)
        for (std::int64_t j = 0; j < s.window.OH * s.window.OW * s.N; ++j, ++i)
          y[at(i)].value -= static_cast<double>(c.b[at(o)]);
    }
    for (Expected& value : y) value = value.through(activated(activation, value.value));
    const std::int64_t shards = conv2d_weight_shards(s), weights = count(c.w);
    const auto device = run_alike(name, [&](Device& d) {
      const T *const x = d.input(c.x), *const w = d.input(c.w), *const dy = d.input(c.dy);
      conv2d_forward(s, precision, x, w, bias ? d.input(c.b) : nullptr, activation,
                     d.output<T>(count(c.dy)), d.stream());
      conv2d_backward_input(s, precision, dy, w, activation, d.input(c.at_x), add, d.updated(c.dx),
                            d.stream());
      T *const dw = d.output<T>(shards * weights), *const db = d.output<T>(shards * s.O);
      conv2d_backward_weight(s, precision, dy, x, dw, db, d.stream());
      combine(shards, weights, weights, dw, false, d.output<T>(weights), d.stream());
      combine(shards, s.O, s.O, db, false, d.output<T>(s.O), d.stream());
    });
    compare(name + " y", device->template result<T>(0), y, c.forward_terms() + roundings);
    compare(name + " dx", device->template result<T>(1), c.dx_before(activation, add),
            c.backward_terms() + roundings);
    compare(name + " dw", device->template result<T>(4), c.dw, c.weight_terms() + roundings);
    compare(name + " db", device->template result<T>(5), c.db, c.weight_terms());
  }
}

TEST(convolutions) {
  for (const Case& test : kCases) {
    check_convolution<float>(test, Precision::fp32, 0);
    check_convolution<double>(test, Precision::fp32, 0);
  }
}

TEST(convolutions_on_tensor_cores) {
  // Two factors, each off by 2^-11 (tf32) or 2^-8 (bfloat16) of itself, in units of 2 2^-23.
  for (const Case& test : kCases) {
    check_convolution<float>(test, Precision::tf32, 0x1p12);
    check_convolution<float>(test, Precision::bf16, 0x1p15);
  }
}

TEST(large_tiles) {
  const Convolution<float> c({"one_by_one_of_96", {16, 96, 20, 20}, {96, 96, 1, 1}});
  const std::int64_t shards = conv2d_weight_shards(c.s), weights = count(c.w);
  Device d;
  const float *const x = d.input(c.x), *const w = d.input(c.w), *const dy = d.input(c.dy);
  conv2d_forward(c.s, Precision::tf32, x, w, d.input(c.b), {}, d.output<float>(count(c.dy)),
                 d.stream());
  conv2d_backward_input(c.s, Precision::tf32, dy, w, {}, static_cast<const float*>(nullptr), false,
                        d.output<float>(count(c.dx)), d.stream());
  float *const dw = d.output<float>(shards * weights), *const db = d.output<float>(shards * 96);
  conv2d_backward_weight(c.s, Precision::fp32, dy, x, dw, db, d.stream());
  combine(shards, weights, weights, dw, false, d.output<float>(weights), d.stream());
  combine(shards, 96, 96, db, false, d.output<float>(96), d.stream());
  check(cudaStreamSynchronize(d.stream()), "a kernel");
  compare("y", d.result<float>(0), c.y, c.forward_terms() + 0x1p12);
  compare("dx", d.result<float>(1), c.dx_, c.backward_terms() + 0x1p12);
  compare("dw", d.result<float>(4), c.dw, c.weight_terms());
  compare("db", d.result<float>(5), c.db, c.weight_terms());
}

TEST(many_shards) {
  const Convolution<float> c(
      {"5_by_5_of_96", {64, 2, 30, 30}, {96, 2, 5, 5}, {1, 1}, {2, 2, 2, 2}});
  const std::int64_t shards = conv2d_weight_shards(c.s), weights = count(c.w);
  CHECK(shards >= 100, shards);
  Device d;
  float *const dw = d.output<float>(shards * weights), *const db = d.output<float>(shards * 96);
  conv2d_backward_weight(c.s, Precision::fp32, d.input(c.dy), d.input(c.x), dw, db, d.stream());
  combine(shards, weights, weights, dw, false, d.output<float>(weights), d.stream());
  combine(shards, 96, 96, db, false, d.output<float>(96), d.stream());
  check(cudaStreamSynchronize(d.stream()), "a kernel");
  compare("dw", d.result<float>(2), c.dw, c.weight_terms());
  compare("db", d.result<float>(3), c.db, c.weight_terms());
}

TEST(tiles_of_a_thread_leave_the_bits) {
  for (const Case& test : kCases) {
    const Convolution<float> c(test);
    std::vector<unsigned char> first;
    for (const auto& [channels, places] :
         {std::pair{1, 1}, {1, 4}, {4, 1}, {4, 4}, {8, 1}, {8, 4}, {16, 4}}) {
      conv2d_set_tile(channels, places);
      Device d;
      conv2d_forward(c.s, Precision::fp32, d.input(c.x), d.input(c.w), d.input(c.b),
                     Activation{Activation::Kind::relu}, d.output<float>(count(c.dy)), d.stream());
      conv2d_backward_input(c.s, Precision::fp32, d.input(c.dy), d.input(c.w), Activation{},
                            static_cast<const float*>(nullptr), false, d.output<float>(count(c.dx)),
                            d.stream());
      check(cudaStreamSynchronize(d.stream()), "a kernel");
      if (first.empty()) {
        first = d.bits();
        compare(test.name, d.result<float>(0), c.y_after({Activation::Kind::relu}),
                c.forward_terms());
      }
      CHECK(d.bits() == first, test.name, "has other bits with a tile of", channels, places);
    }
    conv2d_set_tile(0, 0);
  }
}

// The maxima of 2 x 2 tiles of y, from conv2d_forward itself.
template <typename T>
void check_pooled(const Case& test, const Activation& activation, int channels) {
  const Convolution<T> c(test);
  const Window& v = c.s.window;
  const std::int64_t N = c.s.N, PH = v.OH / 2, PW = v.OW / 2, size = c.s.O * PH * PW * N;
  const std::string name =
      message(test.name, " pooled, activation ", static_cast<int>(activation.kind));
  auto x = c.x;
  if (!x.empty()) x[x.size() / 2] = static_cast<T>(NAN);
  conv2d_set_tile(channels, channels ? 4 : 0);
  const auto device = run_alike(name, [&](Device& d) {
    const T *const x_ = d.input(x), *const w = d.input(c.w), *const b = d.input(c.b);
    conv2d_forward(c.s, Precision::fp32, x_, w, b, activation, d.output<T>(count(c.dy)),
                   d.stream());
    T* const y = d.output<T>(size);
    conv2d_forward_pooled(c.s, Precision::fp32, x_, w, b, activation, y,
                          d.output<std::uint8_t>(size), d.stream());
  });
  conv2d_set_tile(0, 0);
  const auto y = device->template result<T>(0);
  std::vector<T> pooled(at(size));
  std::vector<std::uint8_t> codes(at(size));
  for (std::int64_t o = 0, i = 0; o < c.s.O; ++o)
    for (std::int64_t ph = 0; ph < PH; ++ph)
      for (std::int64_t pw = 0; pw < PW; ++pw)
        for (std::int64_t n = 0; n < N; ++n, ++i)
          for (std::uint8_t q = 0; q < 4; ++q) {
            const T value = y[at(((o * v.OH + 2 * ph + q / 2) * v.OW + 2 * pw + q % 2) * N + n)];
            const T best = pooled[at(i)];
            if (q > 0 && (value <= best || best != best)) continue;
            pooled[at(i)] = value, codes[at(i)] = q;
          }
  compare_exactly(name, device->template result<T>(1), pooled);
  compare_exactly(name + " codes", device->template result<std::uint8_t>(2), codes);
}

TEST(convolutions_with_pools) {
  for (const Case& test : kCases)
    for (const Activation& activation : kActivations) {
      check_pooled<float>(test, activation, 0);
      check_pooled<double>(test, activation, 0);
      if (activation.kind == Activation::Kind::tanh)
        for (const int channels : {1, 4, 8}) check_pooled<float>(test, activation, channels);
    }
}

}  // namespace

PYNN_TEST_MAIN
