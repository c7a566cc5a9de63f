#include <algorithm>

#include "cuda/kernels/gemm.h"
#include "cuda/plan/large_product.h"
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
    const Matrices A = matrices_of(a, raw_a, leading), B = matrices_of(b, raw_b, leading),
                   Y = matrices_of(y, raw_a && raw_b, leading);
    count_a_ = element_count(a);
    count_b_ = element_count(b);
    y_ = walk({M_, N_, K_, 1, A.row, A.column, 0, B.row, B.column, 0, Y.row, Y.column, 0},
              A.leading, B.leading, Y.leading);
    // da = dy b^T, db = a^T dy
    da_ = walk({M_, K_, N_, 1, Y.row, Y.column, 0, B.column, B.row, 0, A.row, A.column, 0},
               Y.leading, B.leading, A.leading);
    db_ = walk({K_, N_, M_, 1, A.column, A.row, 0, Y.row, Y.column, 0, B.row, B.column, 0},
               A.leading, Y.leading, B.leading);
  }

  void forward(const Call<T>& c) const override {
    run(y_, c, c.inputs[0], c.inputs[1], false, 0, c.y);
  }
  void backward(const Call<T>& c) const override {
    if (c.gradients[0]) run(da_, c, c.dy, c.inputs[1], c.add[0] != 0, count_a_, c.gradients[0]);
    if (c.gradients[1]) run(db_, c, c.inputs[0], c.dy, c.add[1] != 0, count_b_, c.gradients[1]);
  }
  std::int64_t forward_scratch() const override { return y_.large.workspace(); }
  std::int64_t backward_scratch() const override {
    return std::max(da_.large.workspace(), db_.large.workspace());
  }
  bool reads_input(std::size_t) const override { return true; }

  std::string what() const override {
    return message("matmul ", M_, " x ", K_, " by ", N_) +
           computed_by("cuBLASLt",
                       {{"y", bool(y_.large)}, {"da", bool(da_.large)}, {"db", bool(db_.large)}});
  }
  std::int64_t flops() const override { return 2 * element_count(sizes_) * M_ * N_ * K_; }
  std::int64_t backward_flops() const override { return 2 * flops(); }

 private:
  // y = a b for all leading indices; where y is repeated along an axis, its products are added, in
  // order. The longest other axis is the batch of a launch.
  struct Walk {
    GemmShape s;
    Shape a, b, y;  // strides along the leading axes
    std::size_t together = 0;
    bool repeated = false;
    LargeProduct<T> large;
  };
  Walk walk(const GemmShape& s, const Shape& a, const Shape& b, const Shape& y) const {
    Walk w{s, a, b, y, sizes_.size(), false, {}};
    for (std::size_t axis = 0; axis < sizes_.size(); ++axis) {
      if (sizes_[axis] == 1) continue;
      if (y[axis] == 0)
        w.repeated = true;
      else if (w.together == sizes_.size() || sizes_[axis] > sizes_[w.together])
        w.together = axis;
    }
    if (w.together != sizes_.size()) {
      w.s.batch = sizes_[w.together];
      w.s.a_batch = a[w.together];
      w.s.b_batch = b[w.together];
      w.s.y_batch = y[w.together];
    }
    w.large = {w.s, precision_};
    return w;
  }
  void run(const Walk& w, const Call<T>& c, const T* a, const T* b, bool add, std::int64_t count,
           T* y) const {
    if (w.repeated && !add)
      check(cudaMemsetAsync(y, 0, static_cast<std::size_t>(count) * sizeof(T), c.stream),
            "clearing a gradient");
    const bool adds = add || w.repeated;
    Shape index(sizes_.size(), 0);
    for (;;) {
      std::int64_t at_a = 0, at_b = 0, at_y = 0;
      for (std::size_t axis = 0; axis < sizes_.size(); ++axis) {
        at_a += index[axis] * w.a[axis];
        at_b += index[axis] * w.b[axis];
        at_y += index[axis] * w.y[axis];
      }
      if (!w.large.run(a + at_a, b + at_b, adds, y + at_y, c.scratch, c.stream))
        gemm(w.s, precision_, a + at_a, b + at_b, adds, y + at_y, c.stream);
      std::size_t axis = 0;
      for (; axis < sizes_.size(); ++axis) {
        if (axis == w.together) continue;
        if (++index[axis] < sizes_[axis]) break;
        index[axis] = 0;
      }
      if (axis == sizes_.size()) return;
    }
  }

  const Precision precision_;
  std::int64_t M_, N_, K_, count_a_, count_b_;
  Shape sizes_;  // of y's leading axes
  Walk y_, da_, db_;
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
