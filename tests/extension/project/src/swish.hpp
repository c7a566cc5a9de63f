#pragma once

#include <cstdint>
#include <pynn/op.hpp>

// x / (1 + exp(-beta x)), by Ramachandran, Zoph and Le, "Searching for activation functions", 2017.
struct Swish {
  double beta = 1;

  static void describe(pynn::op::Description<Swish>& d) {
    d.name("swish").doc("x / (1 + exp(-beta x)), element by element.");
    d.pointwise().backward_reads_inputs();
    d.input("x", "any shape");
    d.attribute("beta", &Swish::beta, "slope of the sigmoid");
    d.sample("one_value", "(1, 1)");
    d.sample("odd_sizes", "(3, 5, 7, 3)", "beta=2.0");
    d.sample("batch_37", "(37, 11)", "beta=-0.5");
    d.sample("over_a_piece", "(5, 1000)");
    d.benchmark("32x28x28_b100", "(100, 32, 28, 28)");
  }

  template <typename T>
  void forward(const pynn::op::Forward<T>& call) const noexcept {
    const auto x = call.input(0);
    const auto y = call.y();
    for (std::int64_t i = 0; i < x.size(); ++i) y[i] = T(beta) * x[i];
    call.sigmoid(x.size(), y.data(), y.data());
    for (std::int64_t i = 0; i < x.size(); ++i) y[i] *= x[i];
  }

  // With s = sigmoid(beta x): dy/dx = s + beta x s (1 - s).
  template <typename T>
  void backward(const pynn::op::Backward<T>& call) const noexcept {
    const auto x = call.input(0);
    const auto dy = call.dy();
    const auto dx = call.gradient(0);
    for (std::int64_t i = 0; i < x.size(); ++i) dx[i] = T(beta) * x[i];
    call.sigmoid(x.size(), dx.data(), dx.data());
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const T s = dx[i];
      dx[i] = dy[i] * s * (1 + T(beta) * x[i] * (1 - s));
    }
  }
};
