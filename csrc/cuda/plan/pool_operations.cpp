#include "cuda/kernels/avg_pool2d.h"
#include "cuda/kernels/max_pool2d.h"
#include "cuda/kernels/pad2d.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

template <typename T, typename Code>
class MaxPool2d final : public Operation<T> {
 public:
  MaxPool2d(const Window& w, const Shape& x) : w_(w), planes_(x[1]), N_(x[0]) {}
  void forward(const Call<T>& c) const override {
    max_pool2d_forward(w_, planes_, N_, c.inputs[0], c.y, reinterpret_cast<Code*>(c.saved),
                       c.stream);
  }
  void backward(const Call<T>& c) const override {
    max_pool2d_backward(w_, planes_, N_, c.dy, reinterpret_cast<const Code*>(c.saved),
                        c.input_activation,
                        c.input_activation.kind == Activation::Kind::none ? nullptr : c.y,
                        c.add[0] != 0, c.gradients[0], c.stream);
  }
  std::int64_t saved_bytes() const override {
    return aligned(results() * static_cast<std::int64_t>(sizeof(Code)));
  }
  bool reads_output() const override { return true; }  // where the input is an activation's result
  bool takes_input_activation() const override { return true; }
  const Window* as_pool() const override {
    const bool tiles = w_.KH == 2 && w_.KW == 2 && w_.stride_h == 2 && w_.stride_w == 2 &&
                       w_.top == 0 && w_.bottom == 0 && w_.left == 0 && w_.right == 0 &&
                       w_.OH == w_.H / 2 && w_.OW == w_.W / 2;
    return tiles ? &w_ : nullptr;
  }
  std::string what() const override { return message("max_pool2d ", w_.KH, " x ", w_.KW); }
  std::int64_t flops() const override { return results() * w_.KH * w_.KW; }
  std::int64_t backward_flops() const override { return results(); }

 private:
  std::int64_t results() const { return N_ * planes_ * w_.OH * w_.OW; }
  const Window w_;
  const std::int64_t planes_, N_;
};

template <typename T>
class AvgPool2d final : public Operation<T> {
 public:
  AvgPool2d(const Window& w, bool count_include_pad, const Shape& x)
      : w_(w), include_pad_(count_include_pad), planes_(x[1]), N_(x[0]) {}
  void forward(const Call<T>& c) const override {
    avg_pool2d_forward(w_, include_pad_, planes_, N_, c.inputs[0], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    avg_pool2d_backward(w_, include_pad_, planes_, N_, c.dy, c.add[0] != 0, c.gradients[0],
                        c.stream);
  }
  std::string what() const override { return message("avg_pool2d ", w_.KH, " x ", w_.KW); }
  std::int64_t flops() const override { return N_ * planes_ * w_.OH * w_.OW * w_.KH * w_.KW; }
  std::int64_t backward_flops() const override { return flops(); }

 private:
  const Window w_;
  const bool include_pad_;
  const std::int64_t planes_, N_;
};

template <typename T>
class GlobalAvgPool2d final : public Operation<T> {
 public:
  explicit GlobalAvgPool2d(const Shape& x) : planes_(x[1]), pixels_(x[2] * x[3]), N_(x[0]) {}
  void forward(const Call<T>& c) const override {
    global_avg_pool2d_forward(planes_, pixels_, N_, c.inputs[0], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    global_avg_pool2d_backward(planes_, pixels_, N_, c.dy, c.add[0] != 0, c.gradients[0], c.stream);
  }
  std::string what() const override { return "global_avg_pool2d"; }
  std::int64_t flops() const override { return N_ * planes_ * pixels_; }
  std::int64_t backward_flops() const override { return flops(); }

 private:
  const std::int64_t planes_, pixels_, N_;
};

template <typename T>
class Pad2d final : public Operation<T> {
 public:
  Pad2d(const Shape& x, const Sides& p, double value)
      : s_{x[1], x[2], x[3], p.top, p.bottom, p.left, p.right}, N_(x[0]), value_(value) {}
  void forward(const Call<T>& c) const override {
    pad2d_forward(s_, N_, value_, c.inputs[0], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    pad2d_backward(s_, N_, c.dy, c.add[0] != 0, c.gradients[0], c.stream);
  }
  std::string what() const override { return "pad2d"; }

 private:
  const Pad2dShape s_;
  const std::int64_t N_;
  const double value_;
};

}  // namespace

template <typename T>
OperationPointer<T> make_max_pool2d(const Window& w, const Shape& x) {
  if (w.KH * w.KW <= 256) return std::make_unique<MaxPool2d<T, std::uint8_t>>(w, x);
  return std::make_unique<MaxPool2d<T, std::int32_t>>(w, x);
}
template <typename T>
OperationPointer<T> make_avg_pool2d(const Window& w, bool count_include_pad, const Shape& x) {
  return std::make_unique<AvgPool2d<T>>(w, count_include_pad, x);
}
template <typename T>
OperationPointer<T> make_global_avg_pool2d(const Shape& x) {
  return std::make_unique<GlobalAvgPool2d<T>>(x);
}
template <typename T>
OperationPointer<T> make_pad2d(const Shape& x, const Sides& padding, double value) {
  return std::make_unique<Pad2d<T>>(x, padding, value);
}

#define PYNN_INSTANTIATE(T)                                                        \
  template OperationPointer<T> make_max_pool2d(const Window&, const Shape&);       \
  template OperationPointer<T> make_avg_pool2d(const Window&, bool, const Shape&); \
  template OperationPointer<T> make_global_avg_pool2d(const Shape&);               \
  template OperationPointer<T> make_pad2d(const Shape&, const Sides&, double)
PYNN_INSTANTIATE(float);
PYNN_INSTANTIATE(double);

}  // namespace pynn::cuda
