#include "cuda/kernels/gemm.h"
#include "cuda/plan/operations.h"
#include "shapes/dense.h"

namespace pynn::cuda {
namespace {

// How the matrices of an array (..., rows, columns) lie, seen with as many leading axes as y has:
// a stride of 0 along those that it is repeated along.
struct Matrices {
  std::int64_t row, column;
  Shape leading;  // strides
};

Matrices matrices_of(const Shape& shape, bool raw, std::size_t leading) {
  const std::size_t axes = shape.size();
  Shape strides(axes);
  std::int64_t stride = 1;
  if (!raw) {  // the first axis lies innermost
    strides[0] = 1;
    stride = shape[0];
  }
  for (std::size_t axis = axes; axis-- > (raw ? 0u : 1u);) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  Matrices m{strides[axes - 2], strides[axes - 1], Shape(leading, 0)};
  for (std::size_t axis = 0; axis + 2 < axes; ++axis)
    if (shape[axis] != 1) m.leading[axis + leading + 2 - axes] = strides[axis];
  return m;
}

template <typename T>
class Matmul final : public Operation<T> {
 public:
  Matmul(const Shape& a, bool raw_a, const Shape& b, bool raw_b, Precision precision)
      : precision_(precision) {
    const Shape y = matmul_shape(a, b);
    const std::size_t leading = y.size() - 2;
    M_ = y[leading];
    N_ = y[leading + 1];
    K_ = a.back();
    sizes_.assign(y.begin(), y.end() - 2);
    a_ = matrices_of(a, raw_a, leading);
    b_ = matrices_of(b, raw_b, leading);
    y_ = matrices_of(y, raw_a && raw_b, leading);
    count_a_ = element_count(a);
    count_b_ = element_count(b);
  }

  void forward(const Call<T>& c) const override {
    walk({M_, N_, K_, 1, a_.row, a_.column, 0, b_.row, b_.column, 0, y_.row, y_.column, 0},
         a_.leading, b_.leading, y_.leading, c.inputs[0], c.inputs[1], false, 0, c.y, c.stream);
  }
  void backward(const Call<T>& c) const override {
    if (c.gradients[0])  // da = dy b^T
      walk({M_, K_, N_, 1, y_.row, y_.column, 0, b_.column, b_.row, 0, a_.row, a_.column, 0},
           y_.leading, b_.leading, a_.leading, c.dy, c.inputs[1], c.add[0] != 0, count_a_,
           c.gradients[0], c.stream);
    if (c.gradients[1])  // db = a^T dy
      walk({K_, N_, M_, 1, a_.column, a_.row, 0, y_.row, y_.column, 0, b_.row, b_.column, 0},
           a_.leading, y_.leading, b_.leading, c.inputs[0], c.dy, c.add[1] != 0, count_b_,
           c.gradients[1], c.stream);
  }
  bool reads_input(std::size_t) const override { return true; }

  std::string what() const override { return message("matmul ", M_, " x ", K_, " by ", N_); }
  std::int64_t flops() const override { return 2 * element_count(sizes_) * M_ * N_ * K_; }
  std::int64_t backward_flops() const override { return 2 * flops(); }

 private:
  // y = a b for all leading indices; where y is repeated along an axis, its products are added, in
  // order. The longest other axis is the batch of a launch.
  void walk(GemmShape s, const Shape& a, const Shape& b, const Shape& y, const T* pa, const T* pb,
            bool add, std::int64_t count, T* py, cudaStream_t stream) const {
    const std::size_t none = sizes_.size();
    std::size_t together = none;
    bool repeated = false;
    for (std::size_t axis = 0; axis < sizes_.size(); ++axis) {
      if (sizes_[axis] == 1) continue;
      if (y[axis] == 0)
        repeated = true;
      else if (together == none || sizes_[axis] > sizes_[together])
        together = axis;
    }
    if (together != none) {
      s.batch = sizes_[together];
      s.a_batch = a[together];
      s.b_batch = b[together];
      s.y_batch = y[together];
    }
    if (repeated && !add)
      check(cudaMemsetAsync(py, 0, static_cast<std::size_t>(count) * sizeof(T), stream),
            "clearing a gradient");
    Shape index(sizes_.size(), 0);
    for (;;) {
      std::int64_t at_a = 0, at_b = 0, at_y = 0;
      for (std::size_t axis = 0; axis < sizes_.size(); ++axis) {
        at_a += index[axis] * a[axis];
        at_b += index[axis] * b[axis];
        at_y += index[axis] * y[axis];
      }
      gemm(s, precision_, pa + at_a, pb + at_b, add || repeated, py + at_y, stream);
      std::size_t axis = 0;
      for (; axis < sizes_.size(); ++axis) {
        if (axis == together) continue;
        if (++index[axis] < sizes_[axis]) break;
        index[axis] = 0;
      }
      if (axis == sizes_.size()) return;
    }
  }

  const Precision precision_;
  std::int64_t M_, N_, K_, count_a_, count_b_;
  Shape sizes_;  // of y's leading axes
  Matrices a_, b_, y_;
};

}  // namespace

template <typename T>
OperationPointer<T> make_matmul(const Shape& a, bool raw_a, const Shape& b, bool raw_b,
                                Precision precision) {
  return std::make_unique<Matmul<T>>(a, raw_a, b, raw_b, precision);
}
template OperationPointer<float> make_matmul(const Shape&, bool, const Shape&, bool, Precision);
template OperationPointer<double> make_matmul(const Shape&, bool, const Shape&, bool, Precision);

}  // namespace pynn::cuda
