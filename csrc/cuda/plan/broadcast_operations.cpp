// add, mul and concat.
#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/concat.h"
#include "cuda/plan/operations.h"
#include "shapes/broadcast.h"

namespace pynn::cuda {
namespace {

template <typename T>
class Broadcast final : public Operation<T> {
 public:
  Broadcast(bool product, const Shape& a, bool raw_a, const Shape& b, bool raw_b)
      : product_(product) {
    const Shape y = broadcast_shape(a, b);
    const bool all_raw = raw_a && raw_b;
    const Shape lying_a = device_shape(a, y.size(), all_raw),
                lying_b = device_shape(b, y.size(), all_raw),
                lying_y = device_shape(y, y.size(), all_raw);
    size_ = element_count(y);
    forward_ = broadcast_walk(lying_a, lying_b);
    walks_[0] = reduction_walk(lying_y, lying_a, lying_b);
    walks_[1] = reduction_walk(lying_y, lying_b, lying_a);
  }
  void forward(const Call<T>& c) const override {
    if (product_)
      mul_forward(forward_, c.inputs[0], c.inputs[1], c.y, c.stream);
    else
      add_forward(forward_, c.inputs[0], c.inputs[1], c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    for (std::size_t place = 0; place < 2; ++place)
      if (c.gradients[place])
        reduce(walks_[place], c.dy, product_ ? c.inputs[1 - place] : nullptr, c.add[place] != 0,
               c.gradients[place], c.stream);
  }
  bool reads_input(std::size_t) const override { return product_; }
  std::string what() const override { return product_ ? "mul" : "add"; }
  std::int64_t flops() const override { return size_; }
  std::int64_t backward_flops() const override { return size_; }

 private:
  const bool product_;
  std::int64_t size_;
  BroadcastShape forward_;
  ReductionShape walks_[2];
};

template <typename T>
class Concat final : public Operation<T> {
 public:
  Concat(const std::vector<Shape>& shapes, std::int64_t axis) {
    const Shape y = concat_shape(shapes, axis);
    axis = checked_axis(axis, y);
    const std::int64_t lying_axis = axis == 0 ? static_cast<std::int64_t>(y.size()) - 1 : axis - 1;
    const AxisSplit whole = split_at(device_shape(y, y.size(), false), lying_axis);
    rows_ = whole.outer;
    stride_ = whole.axis * whole.inner;
    for (const Shape& shape : shapes) {
      const AxisSplit part = split_at(device_shape(shape, y.size(), false), lying_axis);
      widths_.push_back(part.axis * part.inner);
    }
  }
  void forward(const Call<T>& c) const override {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      if (widths_[i] > 0)
        copy_rows(rows_, widths_[i], c.inputs[i], widths_[i], false, c.y + at, stride_, c.stream);
      at += widths_[i];
    }
  }
  void backward(const Call<T>& c) const override {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      if (c.gradients[i] && widths_[i] > 0)
        copy_rows<T>(rows_, widths_[i], c.dy + at, stride_, c.add[i] != 0, c.gradients[i],
                     widths_[i], c.stream);
      at += widths_[i];
    }
  }
  std::string what() const override { return message("concat of ", widths_.size()); }

 private:
  std::int64_t rows_ = 0, stride_ = 0;
  std::vector<std::int64_t> widths_;
};

}  // namespace

template <typename T>
OperationPointer<T> make_add(const Shape& a, bool raw_a, const Shape& b, bool raw_b) {
  return std::make_unique<Broadcast<T>>(false, a, raw_a, b, raw_b);
}
template <typename T>
OperationPointer<T> make_mul(const Shape& a, bool raw_a, const Shape& b, bool raw_b) {
  return std::make_unique<Broadcast<T>>(true, a, raw_a, b, raw_b);
}
template <typename T>
OperationPointer<T> make_concat(const std::vector<Shape>& shapes, std::int64_t axis) {
  return std::make_unique<Concat<T>>(shapes, axis);
}

#define PYNN_INSTANTIATE(T)                                                      \
  template OperationPointer<T> make_add(const Shape&, bool, const Shape&, bool); \
  template OperationPointer<T> make_mul(const Shape&, bool, const Shape&, bool); \
  template OperationPointer<T> make_concat(const std::vector<Shape>&, std::int64_t)
PYNN_INSTANTIATE(float);
PYNN_INSTANTIATE(double);

}  // namespace pynn::cuda
