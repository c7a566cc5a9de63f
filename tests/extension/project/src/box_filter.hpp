#pragma once

#include <algorithm>
#include <cstdint>
#include <pynn/op.hpp>

// The mean of each window of size x size pixels.
struct BoxFilter {
  std::int64_t size = 3;

  static void describe(pynn::op::Description<BoxFilter>& d) {
    d.name("box_filter").doc("The mean of each window of size x size pixels.").per_sample();
    d.input("x", "shape (N, C, H, W)");
    d.attribute("size", &BoxFilter::size, "side of the window");
    d.sample("one_pixel", "(1, 1, 1, 1)", "size=1");
    d.sample("one_window", "(2, 1, 3, 3)");
    d.sample("rectangular", "(3, 2, 5, 7)", "size=2");
    d.sample("batch_37", "(37, 1, 6, 4)");
    d.refusal("three_axes", "(2, 5, 5)", "", "x must have shape (N, C, H, W)");
    d.refusal("too_large", "(2, 1, 3, 5)", "size=4", "a window of 4 x 4 does not fit 3 x 5 pixels");
    d.refusal("nothing", "(2, 1, 3, 5)", "size=0", "size must be at least 1, got 0");
    d.benchmark("32x28x28_b100", "(100, 32, 28, 28)");
  }

  pynn::op::Shape shape(const pynn::op::Inputs& inputs) const {
    const pynn::op::Shape x = inputs[0];
    if (x.size() != 4) throw pynn::op::ShapeError("x must have shape (N, C, H, W)");
    if (size < 1)
      throw std::invalid_argument("size must be at least 1, got " + std::to_string(size));
    if (size > x[2] || size > x[3])
      throw pynn::op::ShapeError("a window of " + std::to_string(size) + " x " +
                                 std::to_string(size) + " does not fit " + std::to_string(x[2]) +
                                 " x " + std::to_string(x[3]) + " pixels");
    return {x[0], x[1], x[2] - size + 1, x[3] - size + 1};
  }

  std::int64_t flops(const pynn::op::Call& call) const {
    std::int64_t count = 2 * size;
    for (const std::int64_t s : call.y_shape()) count *= s;
    return count;
  }

  // A column of sums of `size` rows for each row of y.
  template <typename T>
  std::int64_t workspace(const pynn::op::Call& call, pynn::op::Pass) const {
    const pynn::op::Shape x = call.inputs()[0];
    return x[0] * x[1] * x[3];
  }

  template <typename T>
  void forward(const pynn::op::Forward<T>& call) const {
    const auto x = call.input(0);
    const auto y = call.y();
    const std::int64_t H = x.shape(2), W = x.shape(3), OH = y.shape(2), OW = y.shape(3);
    const T scale = T(1) / T(size * size);
    call.parallel_for(x.shape(0) * x.shape(1), OH * W * size, [&](std::int64_t a, std::int64_t b) {
      for (std::int64_t plane = a; plane < b; ++plane) {
        const T* const x_p = x.data() + plane * H * W;
        T* const y_p = y.data() + plane * OH * OW;
        T* const sums = call.workspace() + plane * W;
        for (std::int64_t h = 0; h < OH; ++h) {
          std::fill(sums, sums + W, T(0));
          for (std::int64_t k = 0; k < size; ++k)
            for (std::int64_t w = 0; w < W; ++w) sums[w] += x_p[(h + k) * W + w];
          for (std::int64_t w = 0; w < OW; ++w) {
            T sum = 0;
            for (std::int64_t k = 0; k < size; ++k) sum += sums[w + k];
            y_p[h * OW + w] = sum * scale;
          }
        }
      }
    });
  }

  template <typename T>
  void backward(const pynn::op::Backward<T>& call) const noexcept {
    const auto dy = call.dy();
    const auto dx = call.gradient(0);
    const std::int64_t H = dx.shape(2), W = dx.shape(3), OH = dy.shape(2), OW = dy.shape(3);
    const T scale = T(1) / T(size * size);
    call.parallel_for(dx.shape(0) * dx.shape(1), OH * W * size,
                      [&](std::int64_t a, std::int64_t b) {
                        for (std::int64_t plane = a; plane < b; ++plane) {
                          const T* const dy_p = dy.data() + plane * OH * OW;
                          T* const dx_p = dx.data() + plane * H * W;
                          T* const sums = call.workspace() + plane * W;
                          std::fill(dx_p, dx_p + H * W, T(0));
                          for (std::int64_t h = 0; h < OH; ++h) {
                            std::fill(sums, sums + W, T(0));
                            for (std::int64_t w = 0; w < OW; ++w)
                              for (std::int64_t k = 0; k < size; ++k)
                                sums[w + k] += dy_p[h * OW + w] * scale;
                            for (std::int64_t k = 0; k < size; ++k)
                              for (std::int64_t w = 0; w < W; ++w) dx_p[(h + k) * W + w] += sums[w];
                          }
                        }
                      });
  }
};
