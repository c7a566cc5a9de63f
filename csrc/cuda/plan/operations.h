// The operators that the device has, made for given shapes. Shapes are logical, (N, ...); `raw`
// marks arrays that lie row-major as on the host: parameters, constants, and all arrays of a call
// of which none has a batch.
#pragma once

#include <memory>
#include <vector>

#include "cuda/kernels/error.h"
#include "cuda/kernels/precision.h"
#include "cuda/plan/operation.h"
#include "kernels/conv2d.h"
#include "runtime/errors.h"
#include "shapes/arrangement.h"

namespace pynn::cuda {

template <typename T>
using OperationPointer = std::unique_ptr<Operation<T>>;

// Inputs: x, w, b.
template <typename T>
OperationPointer<T> make_conv2d(const Conv2dShape& s, Precision precision);
// x (N, ..., in), w (out, in), b (out,).
template <typename T>
OperationPointer<T> make_linear(const Shape& x, const Shape& w, Precision precision);
// a (..., M, K), b (..., K, N): leading axes broadcast.
template <typename T>
OperationPointer<T> make_matmul(const Shape& a, bool raw_a, const Shape& b, bool raw_b,
                                Precision precision);
template <typename T>
OperationPointer<T> make_bias(const Shape& x);
template <typename T>
OperationPointer<T> make_activation(const Activation& activation, const Shape& x);
template <typename T>
OperationPointer<T> make_max_pool2d(const Window& w, const Shape& x);
template <typename T>
OperationPointer<T> make_avg_pool2d(const Window& w, bool count_include_pad, const Shape& x);
template <typename T>
OperationPointer<T> make_global_avg_pool2d(const Shape& x);
template <typename T>
OperationPointer<T> make_softmax(const Shape& x, std::int64_t axis, bool logarithm);
template <typename T>
OperationPointer<T> make_dropout(const Shape& x, double p, std::uint32_t node);
template <typename T>
OperationPointer<T> make_drop_block2d(const Shape& x, double p, std::int64_t block_size,
                                      std::uint32_t node);
// Inputs: x, running mean, running variance, weight, bias.
template <typename T>
OperationPointer<T> make_batch_norm(const Shape& x, bool training, double momentum, double eps);
template <typename T>
OperationPointer<T> make_add(const Shape& a, bool raw_a, const Shape& b, bool raw_b);
template <typename T>
OperationPointer<T> make_mul(const Shape& a, bool raw_a, const Shape& b, bool raw_b);
// flatten and reshape.
template <typename T>
OperationPointer<T> make_view(const Shape& x);
template <typename T>
OperationPointer<T> make_concat(const std::vector<Shape>& shapes, std::int64_t axis);
template <typename T>
OperationPointer<T> make_pad2d(const Shape& x, const Sides& padding, double value);

// Of an array (N, ...): N, and the elements of a sample.
struct Samples {
  std::int64_t N = 1, features = 1;
  std::int64_t count() const { return N * features; }
};
Samples samples_of(const Shape& shape);

// The axes of an array of `axes` axes as they lie on the device: those that are missing are 1, and
// the first is the last unless all arrays are raw.
Shape device_shape(const Shape& shape, std::size_t axes, bool all_raw);

}  // namespace pynn::cuda
