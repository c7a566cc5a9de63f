#include <algorithm>

#include "cuda/kernels/bias.h"
#include "cuda/kernels/conv2d.h"
#include "cuda/kernels/max_pool2d.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/plan/large_convolution.h"
#include "cuda/plan/large_product.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

template <typename T>
class Conv2d final : public Operation<T> {
 public:
  Conv2d(const Conv2dShape& s, Precision precision)
      : s_(s), precision_(precision), shards_(conv2d_weight_shards(s)) {
    if (!pixel_by_pixel()) {
      using Result = typename LargeConvolution<T>::Result;
      y_.convolution = {s, precision, Result::y};
      dx_.convolution = {s, precision, Result::dx};
      dw_.convolution = {s, precision, Result::dw};
      return;
    }
    // A product for each group, whose columns are the positions and samples: y = w x, dx = w^T dy,
    // dw = dy x^T.
    const std::int64_t G = s.groups, O = s.O / G, C = s.C / G, P = columns();
    y_.product = {{O, P, C, G, C, 1, O * C, P, 1, C * P, P, 1, O * P}, precision};
    dx_.product = {{C, P, O, G, 1, C, O * C, P, 1, O * P, P, 1, C * P}, precision};
    dw_.product = {{O, C, P, G, P, 1, O * P, 1, P, C * P, C, 1, O * C}, precision};
  }

  void forward(const Call<T>& c) const override {
    if (pooled_)
      conv2d_forward_pooled(s_, precision_, c.inputs[0], c.inputs[1], c.inputs[2], activation_, c.y,
                            reinterpret_cast<std::uint8_t*>(c.saved), c.stream);
    else if (y_.run(c.inputs[1], c.inputs[0], false, c.y, c.scratch, c.stream))
      bias_activation(s_.O, columns(), c.inputs[2], activation_, c.y, c.stream);
    else
      conv2d_forward(s_, precision_, c.inputs[0], c.inputs[1], c.inputs[2], activation_, c.y,
                     c.stream);
  }

  void backward(const Call<T>& c) const override {
    T* dy = c.dy;
    char* scratch = c.scratch;
    if (pooled_) {
      dy = reinterpret_cast<T*>(scratch);
      scratch += bytes_of<T>(results());
      max_pool2d_backward(pool_, s_.O, s_.N, c.dy, reinterpret_cast<const std::uint8_t*>(c.saved),
                          activation_, c.y, false, dy, c.stream);
    } else if (derives()) {
      activation_backward(activation_, results(), dy, c.y, false, dy, c.stream);
    }
    char* const workspace = c.scratch + arranged_scratch();
    backward_parameters(c, dy, scratch, workspace);
    if (c.gradients[0]) backward_input(c, dy, workspace);
  }

  std::int64_t saved_bytes() const override { return pooled_ ? aligned(pooled_results()) : 0; }
  std::int64_t forward_scratch() const override { return y_.workspace(); }
  std::int64_t backward_scratch() const override {
    return arranged_scratch() + std::max(dx_.workspace(), dw_.workspace());
  }
  bool reads_input(std::size_t place) const override { return place < 2; }
  bool reads_output() const override { return activation_.kind != Activation::Kind::none; }
  std::int64_t shards(std::size_t place) const override { return place > 0 && !dw_ ? shards_ : 1; }

  bool absorb(const Activation& activation) override {
    if (pooled_ || activation_.kind != Activation::Kind::none) return false;
    if (!derives_from_result(activation)) return false;
    activation_ = activation;
    return true;
  }
  bool absorb(const Window& pool) override {
    if (pooled_ || y_ || pool.OH != s_.window.OH / 2 || pool.OW != s_.window.OW / 2) return false;
    pool_ = pool;
    pooled_ = true;
    return true;
  }
  Activation own_activation() const override { return pooled_ ? Activation{} : activation_; }
  void leave_derivative() override { left_ = true; }
  bool takes_input_activation() const override { return true; }

  std::string what() const override {
    const Window& w = s_.window;
    std::string text = message("conv2d ", w.KH, " x ", w.KW, ", ", s_.C, " -> ", s_.O, " channels");
    if (s_.groups > 1) text += message(", groups ", s_.groups);
    if (activation_.kind != Activation::Kind::none) text += message(" + ", name_of(activation_));
    if (pooled_) text += " + max_pool2d 2 x 2";
    return text + computed_by(pixel_by_pixel() ? "cuBLASLt" : "cuDNN",
                              {{"y", bool(y_)}, {"dx", bool(dx_)}, {"dw", bool(dw_)}});
  }
  std::int64_t flops() const override { return 2 * results() * weights() / s_.O; }
  std::int64_t backward_flops() const override { return 2 * flops(); }

 private:
  // Who computes one of the three where it is large.
  struct Large {
    LargeProduct<T> product;  // of 1 x 1
    LargeConvolution<T> convolution;

    explicit operator bool() const { return product || convolution; }
    std::int64_t workspace() const {
      return std::max(product.workspace(), convolution.workspace());
    }
    bool run(const T* a, const T* b, bool add, T* result, char* workspace,
             cudaStream_t stream) const {
      return product.run(a, b, add, result, workspace, stream) ||
             convolution.run(a, b, add, result, workspace, stream);
    }
  };

  bool pixel_by_pixel() const {
    const Window& w = s_.window;
    return w.KH == 1 && w.KW == 1 && w.stride_h == 1 && w.stride_w == 1 && w.OH == w.H &&
           w.OW == w.W;  // then nothing is padded
  }
  std::int64_t inputs() const { return s_.N * s_.C * s_.window.H * s_.window.W; }
  std::int64_t results() const { return s_.N * s_.O * s_.window.OH * s_.window.OW; }
  std::int64_t pooled_results() const { return s_.N * s_.O * pool_.OH * pool_.OW; }
  std::int64_t weights() const { return s_.O * (s_.C / s_.groups) * s_.window.KH * s_.window.KW; }
  std::int64_t columns() const { return s_.window.OH * s_.window.OW * s_.N; }
  std::int64_t arranged_scratch() const {
    return (pooled_ ? bytes_of<T>(results()) : 0) + bytes_of<T>(shards_ * weights()) +
           bytes_of<T>(shards_ * s_.O);
  }
  bool derives() const { return activation_.kind != Activation::Kind::none && !left_; }
  const T* at_of(const Call<T>& c) const {
    return c.input_activation.kind == Activation::Kind::none ? nullptr : c.inputs[0];
  }

  void backward_input(const Call<T>& c, const T* dy, char* workspace) const {
    const T* const at = at_of(c);
    const bool add = c.add[0] != 0;
    T* const dx = c.gradients[0];
    // A gradient that is there already is not multiplied by the derivative.
    if ((at && add) || !dx_.run(c.inputs[1], dy, add, dx, workspace, c.stream))
      conv2d_backward_input(s_, precision_, dy, c.inputs[1], c.input_activation, at, add, dx,
                            c.stream);
    else if (at)
      activation_backward(c.input_activation, inputs(), dx, at, false, dx, c.stream);
  }
  void backward_parameters(const Call<T>& c, const T* dy, char* scratch, char* workspace) const {
    T *const dw = c.gradients[1], *const db = c.inputs[2] ? c.gradients[2] : nullptr;
    if (dw && dw_.run(dy, c.inputs[0], c.add[1] != 0, dw, workspace, c.stream)) {
      if (db) bias_backward(s_.O, columns(), dy, c.add[2] != 0, db, c.stream);
      return;
    }
    if (!dw) {
      if (db) {
        // Its shards, where it is wanted in shards, are all this one and zeros.
        if (c.in_shards[2])
          check(cudaMemsetAsync(db, 0, static_cast<std::size_t>(shards_ * s_.O) * sizeof(T),
                                c.stream),
                "clearing gradients");
        bias_backward(s_.O, results() / s_.O, dy, c.add[2] != 0 && !c.in_shards[2], db, c.stream);
      }
      return;
    }
    // Straight to where they belong, or apart and then combined.
    T* const own_w = reinterpret_cast<T*>(scratch);
    T* const own_b = reinterpret_cast<T*>(scratch + bytes_of<T>(shards_ * weights()));
    const auto straight = [&](std::size_t place) {
      return c.in_shards[place] || (shards_ == 1 && !c.add[place]);
    };
    conv2d_backward_weight(s_, precision_, dy, c.inputs[0], straight(1) ? dw : own_w,
                           !db           ? nullptr
                           : straight(2) ? db
                                         : own_b,
                           c.stream);
    if (!straight(1)) combine(shards_, weights(), weights(), own_w, c.add[1] != 0, dw, c.stream);
    if (db && !straight(2)) combine(shards_, s_.O, s_.O, own_b, c.add[2] != 0, db, c.stream);
  }

  const Conv2dShape s_;
  const Precision precision_;
  const std::int64_t shards_;
  Large y_, dx_, dw_;
  Activation activation_;
  Window pool_;
  bool pooled_ = false, left_ = false;
};

}  // namespace

template <typename T>
OperationPointer<T> make_conv2d(const Conv2dShape& s, Precision precision) {
  return std::make_unique<Conv2d<T>>(s, precision);
}
template OperationPointer<float> make_conv2d(const Conv2dShape&, Precision);
template OperationPointer<double> make_conv2d(const Conv2dShape&, Precision);

}  // namespace pynn::cuda
