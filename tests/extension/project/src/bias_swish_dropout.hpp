#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <pynn/op.hpp>

// y = dropout(swish(x + b)), in one walk over x. What backward needs is one factor for each
// element, which forward leaves.
struct BiasSwishDropout {
  double p = 0.5;

  static void describe(pynn::op::Description<BiasSwishDropout>& d) {
    d.name("bias_swish_dropout");
    d.doc("Add a bias to each channel, then swish, then dropout with probability p.");
    d.per_sample().random();
    d.input("x", "shape (N, C, ...)");
    d.input("b", "shape (C,)").parameter();
    d.attribute("p", &BiasSwishDropout::p, "probability of dropping, 0 ... 1");
    d.sample("one_value", "(1, 1), (1,)");
    d.sample("images", "(3, 4, 5, 7), (4,)", "p=0.25");
    d.sample("batch_37", "(37, 6), (6,)");
    d.sample("over_a_piece", "(2, 3, 30, 31), (3,)", "p=0.1");
    d.sample("nothing_dropped", "(4, 5), (5,)", "p=0.0");
    d.sample("all_dropped", "(4, 5), (5,)", "p=1.0");
    d.refusal("channels", "(3, 4, 5), (5,)", "", "b must have shape (4)");
    d.refusal("probability", "(3, 4), (4,)", "p=1.5", "p must be in 0 ... 1");
    d.benchmark("32x28x28_b100", "(100, 32, 28, 28), (32,)");
  }

  pynn::op::Shape shape(const pynn::op::Inputs& inputs) const {
    const pynn::op::Shape x = inputs[0];
    if (x.size() < 2) throw pynn::op::ShapeError("x must have shape (N, C, ...)");
    if (inputs[1] != pynn::op::Shape{x[1]})
      throw pynn::op::ShapeError("b must have shape (" + std::to_string(x[1]) + ")");
    if (!(p >= 0 && p <= 1)) throw std::invalid_argument("p must be in 0 ... 1");
    return x;
  }

  template <typename T>
  std::int64_t saved(const pynn::op::Call& call) const {
    std::int64_t size = 1;
    for (const std::int64_t s : call.inputs()[0]) size *= s;
    return size;
  }

  template <typename T>
  void forward(const pynn::op::Forward<T>& call) const {
    const auto x = call.input(0), b = call.input(1);
    const auto y = call.y();
    T* const slopes = call.saved();
    const std::int64_t channels = x.shape(1), samples = x.shape(0);
    const std::int64_t pixels = b.size() * samples > 0 ? x.size() / (samples * channels) : 0;
    const double threshold = std::floor(p * 4294967296.0);
    const T scale = p < 1 ? T(1 / (1 - p)) : T(0);
    call.parallel_for(samples * channels, pixels * 40, [&](std::int64_t begin, std::int64_t end) {
      constexpr std::int64_t kPiece = 256;
      std::uint32_t words[kPiece];
      T sigmoid[kPiece];
      for (std::int64_t plane = begin; plane < end; ++plane) {
        const std::int64_t n = plane / channels, c = plane % channels;
        for (std::int64_t first = 0; first < pixels; first += kPiece) {
          const std::int64_t count = std::min(kPiece, pixels - first);
          const std::int64_t at = plane * pixels + first;
          call.random_words(n, c * pixels + first, count, words);
          for (std::int64_t i = 0; i < count; ++i) sigmoid[i] = x[at + i] + b[c];
          call.sigmoid(count, sigmoid, sigmoid);
          for (std::int64_t i = 0; i < count; ++i) {
            const T z = x[at + i] + b[c], s = sigmoid[i];
            const T keep = words[i] < threshold ? T(0) : scale;
            y[at + i] = z * s * keep;
            slopes[at + i] = s * (1 + z * (1 - s)) * keep;
          }
        }
      }
    });
  }

  template <typename T>
  void backward(const pynn::op::Backward<T>& call) const noexcept {
    const auto dy = call.dy();
    const auto dx = call.gradient(0), db = call.gradient(1);
    const T* const slopes = call.saved();
    const std::int64_t channels = dy.shape(1), samples = dy.shape(0);
    const std::int64_t pixels = samples * channels > 0 ? dy.size() / (samples * channels) : 0;
    // A channel is one thread's, so that its sum does not depend on how many there are.
    call.parallel_for(channels, samples * pixels * 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        double sum = 0;
        for (std::int64_t n = 0; n < samples; ++n) {
          const std::int64_t at = (n * channels + c) * pixels;
          for (std::int64_t i = at; i < at + pixels; ++i) {
            const T gradient = dy[i] * slopes[i];
            if (dx) dx[i] = gradient;
            sum += gradient;
          }
        }
        if (db) db[c] = T(sum);
      }
    });
  }
};
