// Activations, bias, dropout, and views: what goes element by element.
#include <algorithm>
#include <cmath>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/bias.h"
#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/drop_block2d.h"
#include "cuda/kernels/dropout.h"
#include "cuda/kernels/error.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

// y (+)= x.
template <typename T>
void copy_to(std::int64_t count, const T* x, bool add, T* y, cudaStream_t stream) {
  if (count == 0) return;
  if (add) return accumulate(count, x, y, stream);
  if (x != y)
    check(cudaMemcpyAsync(y, x, static_cast<std::size_t>(count) * sizeof(T),
                          cudaMemcpyDeviceToDevice, stream),
          "copying on the device");
}

template <typename T>
class ActivationOperation final : public Operation<T> {
 public:
  ActivationOperation(const Activation& activation, const Shape& x)
      : activation_(activation), size_(element_count(x)) {}
  void forward(const Call<T>& c) const override {
    activation_forward(activation_, size_, c.inputs[0], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    activation_backward(activation_, size_, c.dy, reads_output() ? c.y : c.inputs[0], c.add[0] != 0,
                        c.gradients[0], c.stream);
  }
  bool reads_input(std::size_t) const override { return !reads_output(); }
  bool reads_output() const override { return derives_from_result(activation_); }
  bool backward_in_place() const override { return true; }
  const Activation* as_activation() const override { return &activation_; }
  std::string what() const override { return name_of(activation_); }
  std::int64_t flops() const override { return size_; }
  std::int64_t backward_flops() const override { return size_; }

 private:
  const Activation activation_;
  const std::int64_t size_;
};

template <typename T>
class Bias final : public Operation<T> {
 public:
  explicit Bias(const Shape& x) : s_(samples_of(x)) {}
  void forward(const Call<T>& c) const override {
    bias_forward(s_.features, s_.N, c.inputs[0], c.inputs[1], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    if (c.gradients[1])
      bias_backward(s_.features, s_.N, c.dy, c.add[1] != 0, c.gradients[1], c.stream);
    if (c.gradients[0]) copy_to(s_.count(), c.dy, c.add[0] != 0, c.gradients[0], c.stream);
  }
  bool backward_in_place() const override { return true; }
  std::string what() const override { return message("bias of ", s_.features); }
  std::int64_t flops() const override { return s_.count(); }
  std::int64_t backward_flops() const override { return s_.count(); }

 private:
  const Samples s_;
};

template <typename T>
class Dropout final : public Operation<T> {
 public:
  Dropout(const Shape& x, double p, std::uint32_t node) : s_(samples_of(x)), p_(p), node_(node) {}
  void forward(const Call<T>& c) const override { run(c, c.inputs[0], false, c.y); }
  void backward(const Call<T>& c) const override { run(c, c.dy, c.add[0] != 0, c.gradients[0]); }
  bool backward_in_place() const override { return true; }
  std::string what() const override { return message("dropout ", p_); }
  std::int64_t flops() const override { return 10 * s_.count(); }
  std::int64_t backward_flops() const override { return flops(); }

 private:
  void run(const Call<T>& c, const T* x, bool add, T* y) const {
    if (p_ == 0) return copy_to(s_.count(), x, add, y, c.stream);
    if (p_ < 1) return dropout(s_.features, s_.N, p_, node_, c.state, x, add, y, c.stream);
    if (!add && s_.count() > 0)
      check(cudaMemsetAsync(y, 0, static_cast<std::size_t>(s_.count()) * sizeof(T), c.stream),
            "clearing memory");
  }

  const Samples s_;
  const double p_;
  const std::uint32_t node_;
};

template <typename T>
class DropBlock2d final : public Operation<T> {
 public:
  DropBlock2d(const Shape& x, double p, std::int64_t block_size, std::uint32_t node)
      : N_(x[0]), s_{x[1], x[2], x[3], std::min({block_size, x[2], x[3]}), 0}, node_(node) {
    const auto area = static_cast<double>(s_.block * s_.block);
    const auto corners = static_cast<double>((s_.H - s_.block + 1) * (s_.W - s_.block + 1));
    const double gamma = p / area * static_cast<double>(s_.H * s_.W) / corners;
    s_.threshold = static_cast<std::uint64_t>(std::floor(std::min(gamma, 1.0) * 4294967296.0));
  }
  void forward(const Call<T>& c) const override {
    drop_block2d_mask(s_, N_, node_, c.state, c.saved, c.stream);
    drop_block2d(s_, N_, c.saved, c.inputs[0], false, c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    drop_block2d(s_, N_, c.saved, c.dy, c.add[0] != 0, c.gradients[0], c.stream);
  }
  std::int64_t saved_bytes() const override { return aligned(drop_block2d_workspace(s_, N_)); }
  bool backward_in_place() const override { return true; }
  std::string what() const override { return message("drop_block2d ", s_.block, " x ", s_.block); }
  std::int64_t flops() const override { return 10 * N_ * s_.C * s_.H * s_.W; }
  std::int64_t backward_flops() const override { return N_ * s_.C * s_.H * s_.W; }

 private:
  const std::int64_t N_;
  DropBlock2dShape s_;
  const std::uint32_t node_;
};

template <typename T>
class View final : public Operation<T> {
 public:
  explicit View(const Shape& x) : size_(element_count(x)) {}
  void forward(const Call<T>& c) const override {
    copy_to(size_, c.inputs[0], false, c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    copy_to<T>(size_, c.dy, c.add[0] != 0, c.gradients[0], c.stream);
  }
  bool is_view() const override { return true; }
  bool backward_in_place() const override { return true; }
  std::string what() const override { return "another shape"; }

 private:
  const std::int64_t size_;
};

}  // namespace

template <typename T>
OperationPointer<T> make_activation(const Activation& activation, const Shape& x) {
  return std::make_unique<ActivationOperation<T>>(activation, x);
}
template <typename T>
OperationPointer<T> make_bias(const Shape& x) {
  return std::make_unique<Bias<T>>(x);
}
template <typename T>
OperationPointer<T> make_dropout(const Shape& x, double p, std::uint32_t node) {
  return std::make_unique<Dropout<T>>(x, p, node);
}
template <typename T>
OperationPointer<T> make_drop_block2d(const Shape& x, double p, std::int64_t block_size,
                                      std::uint32_t node) {
  return std::make_unique<DropBlock2d<T>>(x, p, block_size, node);
}
template <typename T>
OperationPointer<T> make_view(const Shape& x) {
  return std::make_unique<View<T>>(x);
}

#define PYNN_INSTANTIATE(T)                                                          \
  template OperationPointer<T> make_activation(const Activation&, const Shape&);     \
  template OperationPointer<T> make_bias(const Shape&);                              \
  template OperationPointer<T> make_dropout(const Shape&, double, std::uint32_t);    \
  template OperationPointer<T> make_drop_block2d(const Shape&, double, std::int64_t, \
                                                 std::uint32_t);                     \
  template OperationPointer<T> make_view(const Shape&)
PYNN_INSTANTIATE(float);
PYNN_INSTANTIATE(double);

}  // namespace pynn::cuda
