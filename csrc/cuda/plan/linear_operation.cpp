#include <algorithm>

#include "cuda/kernels/bias.h"
#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/linear.h"
#include "cuda/plan/large_product.h"
#include "cuda/plan/operations.h"

namespace pynn::cuda {
namespace {

// x (in, S), y (out, S): the samples of a batch, or positions x samples, whose features are
// brought to the front first.
template <typename T>
class Linear final : public Operation<T> {
 public:
  Linear(const Shape& x, const Shape& w, Precision precision) : precision_(precision) {
    s_.in = w[1];
    s_.out = w[0];
    N_ = x[0];
    for (std::size_t axis = 1; axis + 1 < x.size(); ++axis) positions_ *= x[axis];
    s_.N = x.size() == 1 ? 1 : N_ * positions_;
    if (x.size() == 1) N_ = 1;
    const std::int64_t N = s_.N, in = s_.in, out = s_.out;
    // y = w x, dx = w^T dy, dw = dy x^T
    y_ = {{out, N, in, 1, in, 1, 0, N, 1, 0, N, 1, 0}, precision};
    dx_ = {{in, N, out, 1, 1, in, 0, N, 1, 0, N, 1, 0}, precision};
    dw_ = {{out, in, N, 1, N, 1, 0, 1, N, 0, in, 1, 0}, precision};
  }

  void forward(const Call<T>& c) const override {
    if (positions_ == 1) return forward_on(c, c.inputs[0], c.y, c.scratch);
    const std::int64_t inputs = bytes_of<T>(s_.N * s_.in), outputs = bytes_of<T>(s_.N * s_.out);
    T* const x = reinterpret_cast<T*>(c.scratch);
    T* const y = reinterpret_cast<T*>(c.scratch + inputs);
    to_front(s_.in, c.inputs[0], x, c.stream);
    forward_on(c, x, y, c.scratch + inputs + outputs);
    to_back(s_.out, y, c.y, c.stream);
  }

  void backward(const Call<T>& c) const override {
    if (activation_.kind != Activation::Kind::none && !left_)
      activation_backward(activation_, s_.N * s_.out, c.dy, c.y, false, c.dy, c.stream);
    if (positions_ == 1) {
      backward_parameters(c, c.dy, c.inputs[0], c.scratch);
      if (c.gradients[0])
        backward_input(c, c.dy, c.input_activation, c.add[0] != 0, c.gradients[0], c.scratch);
      return;
    }
    const std::int64_t inputs = bytes_of<T>(s_.N * s_.in), outputs = bytes_of<T>(s_.N * s_.out);
    T* const dy = reinterpret_cast<T*>(c.scratch);
    T* const x = reinterpret_cast<T*>(c.scratch + outputs);
    T* const dx = reinterpret_cast<T*>(c.scratch + outputs + inputs);
    char* const workspace = c.scratch + outputs + 2 * inputs;
    to_front(s_.out, c.dy, dy, c.stream);
    to_front(s_.in, c.inputs[0], x, c.stream);
    backward_parameters(c, dy, x, workspace);
    if (!c.gradients[0]) return;
    backward_input(c, dy, {}, false, dx, workspace);
    if (!c.add[0]) return to_back(s_.in, dx, c.gradients[0], c.stream);
    to_back(s_.in, dx, x, c.stream);
    accumulate(s_.N * s_.in, x, c.gradients[0], c.stream);
  }

  std::int64_t forward_scratch() const override {
    const std::int64_t arranged =
        positions_ == 1 ? 0 : bytes_of<T>(s_.N * s_.in) + bytes_of<T>(s_.N * s_.out);
    return arranged + y_.workspace();
  }
  std::int64_t backward_scratch() const override {
    const std::int64_t arranged =
        positions_ == 1 ? 0 : bytes_of<T>(s_.N * s_.out) + 2 * bytes_of<T>(s_.N * s_.in);
    return arranged + std::max(dx_.workspace(), dw_.workspace());
  }
  bool reads_input(std::size_t place) const override { return place < 2; }
  bool reads_output() const override { return activation_.kind != Activation::Kind::none; }

  bool absorb(const Activation& activation) override {
    if (activation_.kind != Activation::Kind::none) return false;
    if (!derives_from_result(activation)) return false;
    activation_ = activation;
    return true;
  }
  Activation own_activation() const override { return activation_; }
  void leave_derivative() override { left_ = true; }
  bool takes_input_activation() const override { return positions_ == 1; }

  std::string what() const override {
    std::string text = message("linear ", s_.in, " -> ", s_.out);
    if (activation_.kind != Activation::Kind::none) text += message(" + ", name_of(activation_));
    return text + computed_by("cuBLASLt", {{"y", bool(y_)}, {"dx", bool(dx_)}, {"dw", bool(dw_)}});
  }
  std::int64_t flops() const override { return 2 * s_.N * s_.in * s_.out; }
  std::int64_t backward_flops() const override { return 2 * flops(); }

 private:
  void forward_on(const Call<T>& c, const T* x, T* y, char* workspace) const {
    if (y_.run(c.inputs[1], x, false, y, workspace, c.stream))
      bias_activation(s_.out, s_.N, c.inputs[2], activation_, y, c.stream);
    else
      linear_forward(s_, precision_, x, c.inputs[1], c.inputs[2], activation_, y, c.stream);
  }
  void backward_input(const Call<T>& c, const T* dy, const Activation& activation, bool add, T* dx,
                      char* workspace) const {
    const bool derives = activation.kind != Activation::Kind::none;
    const T* const at = derives ? c.inputs[0] : nullptr;
    // A gradient that is there already is not multiplied by the derivative.
    if ((derives && add) || !dx_.run(c.inputs[1], dy, add, dx, workspace, c.stream))
      linear_backward_input(s_, precision_, dy, c.inputs[1], activation, at, add, dx, c.stream);
    else if (derives)
      activation_backward(activation, s_.N * s_.in, dx, at, false, dx, c.stream);
  }
  void backward_parameters(const Call<T>& c, const T* dy, const T* x, char* workspace) const {
    T *const dw = c.gradients[1], *const db = c.inputs[2] ? c.gradients[2] : nullptr;
    const bool done = dw && dw_.run(dy, x, c.add[1] != 0, dw, workspace, c.stream);
    const bool together = dw && db && !done && c.add[1] == c.add[2];
    if (dw && !done)
      linear_backward_weight(s_, precision_, dy, x, c.add[1] != 0, dw, together ? db : nullptr,
                             c.stream);
    if (db && !together) bias_backward(s_.out, s_.N, dy, c.add[2] != 0, db, c.stream);
  }
  // (positions, features, N) -> (features, positions, N), and back.
  void to_front(std::int64_t features, const T* x, T* y, cudaStream_t stream) const {
    swap(features, positions_, x, y, stream);
  }
  void to_back(std::int64_t features, const T* x, T* y, cudaStream_t stream) const {
    swap(positions_, features, x, y, stream);
  }
  void swap(std::int64_t first, std::int64_t second, const T* x, T* y, cudaStream_t stream) const {
    Axes axes;
    axes.count = 3;
    const std::int64_t sizes[] = {first, second, N_}, strides[] = {N_, first * N_, 1};
    for (int i = 0; i < 3; ++i) axes.size[i] = sizes[i], axes.a[i] = strides[i], axes.b[i] = 0;
    permute(axes, x, y, stream);
  }

  const Precision precision_;
  LinearShape s_;
  LargeProduct<T> y_, dx_, dw_;
  std::int64_t N_ = 0, positions_ = 1;
  Activation activation_;
  bool left_ = false;
};

}  // namespace

template <typename T>
OperationPointer<T> make_linear(const Shape& x, const Shape& w, Precision precision) {
  return std::make_unique<Linear<T>>(x, w, precision);
}
template OperationPointer<float> make_linear(const Shape&, const Shape&, Precision);
template OperationPointer<double> make_linear(const Shape&, const Shape&, Precision);

}  // namespace pynn::cuda
