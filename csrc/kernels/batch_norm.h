#pragma once

#include <cstdint>

namespace pynn {

// x, y, dy, dx (N, C, inner); mean, var, weight, bias, dweight, dbias (C,). weight and bias may be
// null: ones and zeros.
struct BatchNormShape {
  std::int64_t N, C, inner;
  std::int64_t count() const { return N * inner; }  // values of a channel
};

// Each call handles the channels begin ... end alone. Sums are double, in an order that the shape
// decides.
template <typename T>
struct BatchNormKernels {
  // Overwrites mean and var (biased), for count() > 0.
  void (*statistics)(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* x,
                     T* mean, T* var);
  // y = (x - mean) / sqrt(var + eps) * weight + bias. Overwrites y.
  void (*forward)(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* x,
                  const T* mean, const T* var, const T* weight, const T* bias, double eps, T* y);
  // Overwrites dx, dweight and dbias; each may be null. In training mean and var depend on x.
  void (*backward)(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                   const T* x, const T* mean, const T* var, const T* weight, bool training,
                   double eps, T* dx, T* dweight, T* dbias);
};

}  // namespace pynn
