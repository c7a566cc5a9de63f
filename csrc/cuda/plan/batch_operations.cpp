// batch_norm and softmax: what looks along an axis.
#include "cuda/kernels/batch_norm.h"
#include "cuda/kernels/softmax.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

// Inputs: x, running mean, running variance, weight, bias.
template <typename T>
class BatchNorm final : public Operation<T> {
 public:
  BatchNorm(const Shape& x, bool training, double momentum, double eps)
      : training_(training), momentum_(momentum), size_(element_count(x)) {
    s_.C = x[1];
    s_.inner = s_.C == 0 ? 0 : size_ / s_.C;
    s_.eps = eps;
  }
  void forward(const Call<T>& c) const override {
    if (training_)
      batch_norm_forward_training(s_, c.inputs[0], c.inputs[3], c.inputs[4], activation_, mean(c),
                                  var(c), c.y, c.stream);
    else
      batch_norm_forward(s_, c.inputs[0], c.inputs[1], c.inputs[2], c.inputs[3], c.inputs[4],
                         activation_, c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    if (activation_.kind != Activation::Kind::none && !left_)
      activation_backward(activation_, size_, c.dy, c.y, false, c.dy, c.stream);
    const T *const mean_used = training_ ? mean(c) : c.inputs[1], *const var_used =
                                                                      training_ ? var(c)
                                                                                : c.inputs[2];
    T *const dweight = c.inputs[3] ? c.gradients[3] : nullptr, *const dbias = c.inputs[4]
                                                                                  ? c.gradients[4]
                                                                                  : nullptr;
    const bool add_weight = dweight && c.add[3], add_bias = dbias && c.add[4];
    const bool together = !dweight || !dbias || add_weight == add_bias;
    const auto run = [&](T* dx, T* dw, T* db, bool add) {
      batch_norm_backward(s_, c.dy, c.inputs[0], mean_used, var_used, c.inputs[3], training_,
                          c.add[0] != 0, dx, add, dw, db, c.stream);
    };
    run(c.gradients[0], dweight, together ? dbias : nullptr, dweight ? add_weight : add_bias);
    if (!together) run(nullptr, nullptr, dbias, add_bias);
  }
  void commit(const Call<T>& c) const override {
    if (commits() && c.inputs[1] && c.inputs[2])
      batch_norm_update_running<T>(s_, mean(c), var(c), momentum_, const_cast<T*>(c.inputs[1]),
                                   const_cast<T*>(c.inputs[2]), nullptr, c.state, c.stream);
  }
  bool commits() const override { return training_; }

  std::int64_t saved_bytes() const override { return training_ ? 2 * bytes_of<T>(s_.C) : 0; }
  bool reads_input(std::size_t) const override { return true; }
  bool reads_output() const override { return activation_.kind != Activation::Kind::none; }
  bool absorb(const Activation& activation) override {
    if (activation_.kind != Activation::Kind::none) return false;
    if (!derives_from_result(activation)) return false;
    activation_ = activation;
    return true;
  }
  Activation own_activation() const override { return activation_; }
  void leave_derivative() override { left_ = true; }

  std::string what() const override {
    std::string text = message("batch_norm of ", s_.C, " channels");
    if (activation_.kind != Activation::Kind::none) text += message(" + ", name_of(activation_));
    return text;
  }
  std::int64_t flops() const override { return 8 * size_; }
  std::int64_t backward_flops() const override { return 8 * size_; }

 private:
  static T* mean(const Call<T>& c) { return reinterpret_cast<T*>(c.saved); }
  T* var(const Call<T>& c) const { return reinterpret_cast<T*>(c.saved + bytes_of<T>(s_.C)); }

  BatchNormShape s_;
  const bool training_;
  const double momentum_;
  const std::int64_t size_;
  Activation activation_;
  bool left_ = false;
};

template <typename T>
class Softmax final : public Operation<T> {
 public:
  Softmax(const Shape& x, std::int64_t axis, bool logarithm) : logarithm_(logarithm) {
    const Shape lying = device_shape(x, x.size(), false);
    axis = checked_axis(axis, x);
    const auto last = static_cast<std::int64_t>(x.size()) - 1;
    const AxisSplit split = split_at(lying, axis == 0 ? last : axis - 1);
    s_ = {split.outer, split.axis, split.inner};
  }
  void forward(const Call<T>& c) const override {
    if (logarithm_)
      log_softmax_forward(s_, c.inputs[0], c.y, c.stream);
    else
      softmax_forward(s_, c.inputs[0], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    if (logarithm_)
      log_softmax_backward(s_, c.dy, c.y, c.add[0] != 0, c.gradients[0], c.stream);
    else
      softmax_backward(s_, c.dy, c.y, c.add[0] != 0, c.gradients[0], c.stream);
  }
  bool reads_output() const override { return true; }
  std::string what() const override {
    return message(logarithm_ ? "log_softmax" : "softmax", " of ", s_.axis);
  }
  std::int64_t flops() const override { return 20 * s_.outer * s_.axis * s_.inner; }
  std::int64_t backward_flops() const override { return flops(); }

 private:
  SoftmaxShape s_{};
  const bool logarithm_;
};

}  // namespace

template <typename T>
OperationPointer<T> make_batch_norm(const Shape& x, bool training, double momentum, double eps) {
  return std::make_unique<BatchNorm<T>>(x, training, momentum, eps);
}
template <typename T>
OperationPointer<T> make_softmax(const Shape& x, std::int64_t axis, bool logarithm) {
  return std::make_unique<Softmax<T>>(x, axis, logarithm);
}

#define PYNN_INSTANTIATE(T)                                                         \
  template OperationPointer<T> make_batch_norm(const Shape&, bool, double, double); \
  template OperationPointer<T> make_softmax(const Shape&, std::int64_t, bool)
PYNN_INSTANTIATE(float);
PYNN_INSTANTIATE(double);

}  // namespace pynn::cuda
