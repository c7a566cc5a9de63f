#include "cuda/kernels/bias.h"
#include "cuda/kernels/conv2d.h"
#include "cuda/kernels/max_pool2d.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

template <typename T>
class Conv2d final : public Operation<T> {
 public:
  Conv2d(const Conv2dShape& s, Precision precision)
      : s_(s), precision_(precision), shards_(conv2d_weight_shards(s)) {}

  void forward(const Call<T>& c) const override {
    if (pooled_)
      conv2d_forward_pooled(s_, precision_, c.inputs[0], c.inputs[1], c.inputs[2], activation_, c.y,
                            reinterpret_cast<std::uint8_t*>(c.saved), c.stream);
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
    backward_parameters(c, dy, scratch);
    if (c.gradients[0])
      conv2d_backward_input(s_, precision_, dy, c.inputs[1], c.input_activation, at_of(c),
                            c.add[0] != 0, c.gradients[0], c.stream);
  }

  std::int64_t saved_bytes() const override { return pooled_ ? aligned(pooled_results()) : 0; }
  std::int64_t backward_scratch() const override {
    return (pooled_ ? bytes_of<T>(results()) : 0) + bytes_of<T>(shards_ * weights()) +
           bytes_of<T>(shards_ * s_.O);
  }
  bool reads_input(std::size_t place) const override { return place < 2; }
  bool reads_output() const override { return activation_.kind != Activation::Kind::none; }
  std::int64_t shards(std::size_t place) const override { return place > 0 ? shards_ : 1; }

  bool absorb(const Activation& activation) override {
    if (pooled_ || activation_.kind != Activation::Kind::none) return false;
    if (!derives_from_result(activation)) return false;
    activation_ = activation;
    return true;
  }
  bool absorb(const Window& pool) override {
    if (pooled_ || pool.OH != s_.window.OH / 2 || pool.OW != s_.window.OW / 2) return false;
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
    return pooled_ ? text + " + max_pool2d 2 x 2" : text;
  }
  std::int64_t flops() const override { return 2 * results() * weights() / s_.O; }
  std::int64_t backward_flops() const override { return 2 * flops(); }

 private:
  std::int64_t results() const { return s_.N * s_.O * s_.window.OH * s_.window.OW; }
  std::int64_t pooled_results() const { return s_.N * s_.O * pool_.OH * pool_.OW; }
  std::int64_t weights() const { return s_.O * (s_.C / s_.groups) * s_.window.KH * s_.window.KW; }
  bool derives() const { return activation_.kind != Activation::Kind::none && !left_; }
  const T* at_of(const Call<T>& c) const {
    return c.input_activation.kind == Activation::Kind::none ? nullptr : c.inputs[0];
  }

  void backward_parameters(const Call<T>& c, const T* dy, char* scratch) const {
    T *const dw = c.gradients[1], *const db = c.inputs[2] ? c.gradients[2] : nullptr;
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
