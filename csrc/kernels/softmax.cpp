#include "kernels/softmax.h"

#include "simd/lines.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void scale_row(std::int64_t n, T scale, T* y) {
  for (std::int64_t j = 0; j < n; ++j) y[j] *= scale;
}

template <typename T>
void forward(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* x, T* y) {
  for_each_line(
      s, begin, end,
      [&](std::int64_t offset) {
        const T *x_r = x + offset, largest = maximum(s.axis, x_r);
        T* y_r = y + offset;
        const T row_sum = sum<T>(s.axis, [=](std::int64_t j) {
          return y_r[j] = exponential_of_nonpositive(x_r[j] - largest);
        });
        scale_row(s.axis, T(1) / row_sum, y_r);
      },
      [&](std::int64_t count, std::int64_t offset) {
        T* y_block = y + offset;
        subtract_row_maximum(count, s.axis, x + offset, y_block);
        for (std::int64_t i = 0; i < count * s.axis; ++i)
          y_block[i] = exponential_of_nonpositive(y_block[i]);
        for (std::int64_t r = 0; r < count; ++r) {
          T* y_r = y_block + r * s.axis;
          const T row_sum = sum<T>(s.axis, [=](std::int64_t j) { return y_r[j]; });
          scale_row(s.axis, T(1) / row_sum, y_r);
        }
      },
      [&](std::int64_t count, std::int64_t offset) {
        T scale[kBundle] = {};
        subtract_line_maximum(count, s.axis, s.inner, x + offset, y + offset);
        for (std::int64_t j = 0; j < s.axis; ++j) {
          T* y_j = y + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) {
            y_j[i] = exponential_of_nonpositive(y_j[i]);
            scale[i] += y_j[i];
          }
        }
        for (std::int64_t i = 0; i < count; ++i) scale[i] = T(1) / scale[i];
        for (std::int64_t j = 0; j < s.axis; ++j) {
          T* y_j = y + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) y_j[i] *= scale[i];
        }
      });
}

// dx = y (dy - sum of dy y along the line)
template <typename T>
void backward(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* dy, const T* y,
              T* dx) {
  const auto row = [&](std::int64_t offset) {
    const T *dy_r = dy + offset, *y_r = y + offset;
    T* dx_r = dx + offset;
    const T dot = sum<T>(s.axis, [=](std::int64_t j) { return dy_r[j] * y_r[j]; });
    for (std::int64_t j = 0; j < s.axis; ++j) dx_r[j] = y_r[j] * (dy_r[j] - dot);
  };
  for_each_line(
      s, begin, end, row,
      [&](std::int64_t count, std::int64_t offset) {
        for (std::int64_t r = 0; r < count; ++r) row(offset + r * s.axis);
      },
      [&](std::int64_t count, std::int64_t offset) {
        T dot[kBundle] = {};
        for (std::int64_t j = 0; j < s.axis; ++j) {
          const T *dy_j = dy + offset + j * s.inner, *y_j = y + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) dot[i] += dy_j[i] * y_j[i];
        }
        for (std::int64_t j = 0; j < s.axis; ++j) {
          const T *dy_j = dy + offset + j * s.inner, *y_j = y + offset + j * s.inner;
          T* dx_j = dx + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) dx_j[i] = y_j[i] * (dy_j[i] - dot[i]);
        }
      });
}

}  // namespace

void get(SoftmaxKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(SoftmaxKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
