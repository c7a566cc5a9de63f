// A library of operators, built against the ABI as it is; the tests are also built with a later
// one.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "pynn/op.hpp"

namespace {

using pynn::op::Backward;
using pynn::op::Description;
using pynn::op::Forward;

struct Scale {
  double factor = 3;

  static void describe(Description<Scale>& d) {
    d.name("scale").doc("factor x").pointwise();
    d.input("x");
    d.attribute("factor", &Scale::factor, "what x is multiplied by");
    d.sample("rows", "(3, 4)", "factor=0.5");
  }
  template <typename T>
  void forward(const Forward<T>& call) const noexcept {
    const auto x = call.input(0);
    for (std::int64_t i = 0; i < x.size(); ++i) call.y()[i] = T(factor) * x[i];
  }
  template <typename T>
  void backward(const Backward<T>& call) const noexcept {
    const auto dy = call.dy();
    for (std::int64_t i = 0; i < dy.size(); ++i) call.gradient(0)[i] = T(factor) * dy[i];
  }
};

// y[n] = the sum of w x[n], over the elements of a sample, w for each channel; what backward needs
// of x is saved. Uses a workspace, threads and a product of pynn's.
struct WeightedSum {
  std::int64_t repeat = 1;
  bool negate = false;
  std::string mode = "sum";
  std::vector<std::int64_t> extra{1, 2};

  static void describe(Description<WeightedSum>& d) {
    d.name("weighted_sum").per_sample();
    d.input("x", "(N, C, H, W)");
    d.input("w", "(C,)").parameter();
    d.input("b", "(1,)").parameter().optional();
    d.attribute("repeat", &WeightedSum::repeat).attribute("negate", &WeightedSum::negate);
    d.attribute("mode", &WeightedSum::mode).attribute("extra", &WeightedSum::extra);
  }
  pynn::op::Shape shape(const pynn::op::Inputs& inputs) const {
    if (inputs[0].size() != 4) throw pynn::op::ShapeError("x must have four axes");
    if (mode != "sum") throw std::invalid_argument("mode must be sum, got " + mode);
    return {inputs[0][0], repeat};
  }
  template <typename T>
  std::int64_t saved(const pynn::op::Call& call) const {
    return call.inputs()[0][0] * call.inputs()[0][1];
  }
  template <typename T>
  std::int64_t workspace(const pynn::op::Call& call, pynn::op::Pass) const {
    return call.inputs()[0][0];
  }
  template <typename T>
  void forward(const Forward<T>& call) const {
    const auto x = call.input(0), w = call.input(1), b = call.input(2);
    const std::int64_t N = x.shape(0), C = x.shape(1), pixels = x.shape(2) * x.shape(3);
    T* const sums = call.saved();
    call.parallel_for(N * C, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        sums[i] = 0;
        for (std::int64_t k = 0; k < pixels; ++k) sums[i] += x[i * pixels + k];
      }
    });
    call.gemm(N, 1, C, {sums, C}, {w.data(), 1}, {call.workspace(), 1});
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t r = 0; r < repeat; ++r)
        call.y()[n * repeat + r] = (negate ? -1 : 1) * call.workspace()[n] + (b ? b[0] : T(0));
  }
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto dy = call.dy();
    const auto dx = call.gradient(0), dw = call.gradient(1), db = call.gradient(2);
    const auto w = call.input(1);
    if (w) throw std::logic_error("it did not ask for its inputs");
    const std::int64_t N = dx.shape(0), C = dx.shape(1), pixels = dx.shape(2) * dx.shape(3);
    T* const sum = call.workspace();
    for (std::int64_t n = 0; n < N; ++n) {
      sum[n] = 0;
      for (std::int64_t r = 0; r < repeat; ++r) sum[n] += (negate ? -1 : 1) * dy[n * repeat + r];
    }
    if (dx)
      for (std::int64_t i = 0; i < N * C * pixels; ++i) dx[i] = sum[i / (C * pixels)];
    if (dw) call.gemm(C, 1, N, {call.saved(), 1, C}, {sum, 1}, {dw.data(), 1});
    if (db) {
      db[0] = 0;
      for (const T g : dy) db[0] += g;
    }
  }
};

}  // namespace

PYNN_OPERATORS(Scale, WeightedSum)
