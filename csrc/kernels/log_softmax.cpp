#include "kernels/log_softmax.h"

#include "simd/lines.h"

namespace pynn::PYNN_ISA {
namespace {

// y = x - max - log(sum of exp(x - max))
template <typename T>
void forward(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* x, T* y) {
  for_each_line(
      s, begin, end,
      [&](std::int64_t offset) {
        const T *x_r = x + offset, largest = maximum(s.axis, x_r);
        T* y_r = y + offset;
        const T log_sum = natural_log(sum<T>(
            s.axis, [=](std::int64_t j) { return exponential_of_nonpositive(x_r[j] - largest); }));
        for (std::int64_t j = 0; j < s.axis; ++j) y_r[j] = (x_r[j] - largest) - log_sum;
      },
      [&](std::int64_t count, std::int64_t offset) {
        T* y_block = y + offset;
        subtract_row_maximum(count, s.axis, x + offset, y_block);
        T e[kBlock];
        for (std::int64_t i = 0; i < count * s.axis; ++i)
          e[i] = exponential_of_nonpositive(y_block[i]);
        for (std::int64_t r = 0; r < count; ++r) {
          const T* e_r = e + r * s.axis;
          e[r] = sum<T>(s.axis, [=](std::int64_t j) { return e_r[j]; });  // of a row done with
        }
        for (std::int64_t r = 0; r < count; ++r) e[r] = natural_log(e[r]);
        for (std::int64_t r = 0; r < count; ++r) {
          T* y_r = y_block + r * s.axis;
          const T log_sum = e[r];
          for (std::int64_t j = 0; j < s.axis; ++j) y_r[j] -= log_sum;
        }
      },
      [&](std::int64_t count, std::int64_t offset) {
        T log_sum[kBundle] = {};
        subtract_line_maximum(count, s.axis, s.inner, x + offset, y + offset);
        for (std::int64_t j = 0; j < s.axis; ++j) {
          const T* y_j = y + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) log_sum[i] += exponential_of_nonpositive(y_j[i]);
        }
        for (std::int64_t i = 0; i < count; ++i) log_sum[i] = natural_log(log_sum[i]);
        for (std::int64_t j = 0; j < s.axis; ++j) {
          T* y_j = y + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) y_j[i] -= log_sum[i];
        }
      });
}

// dx = dy - exp(y) * sum of dy along the line
template <typename T>
void backward(const SoftmaxShape& s, std::int64_t begin, std::int64_t end, const T* dy, const T* y,
              T* dx) {
  for_each_line(
      s, begin, end,
      [&](std::int64_t offset) {
        const T *dy_r = dy + offset, *y_r = y + offset;
        T* dx_r = dx + offset;
        const T dy_sum = sum<T>(s.axis, [=](std::int64_t j) { return dy_r[j]; });
        for (std::int64_t j = 0; j < s.axis; ++j) dx_r[j] = dy_r[j] - exponential(y_r[j]) * dy_sum;
      },
      [&](std::int64_t count, std::int64_t offset) {
        T* dx_block = dx + offset;
        for (std::int64_t i = 0; i < count * s.axis; ++i) dx_block[i] = exponential(y[offset + i]);
        for (std::int64_t r = 0; r < count; ++r) {
          const T* dy_r = dy + offset + r * s.axis;
          T* dx_r = dx_block + r * s.axis;
          const T dy_sum = sum<T>(s.axis, [=](std::int64_t j) { return dy_r[j]; });
          for (std::int64_t j = 0; j < s.axis; ++j) dx_r[j] = dy_r[j] - dx_r[j] * dy_sum;
        }
      },
      [&](std::int64_t count, std::int64_t offset) {
        T dy_sum[kBundle] = {};
        for (std::int64_t j = 0; j < s.axis; ++j) {
          const T* dy_j = dy + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i) dy_sum[i] += dy_j[i];
        }
        for (std::int64_t j = 0; j < s.axis; ++j) {
          const T *dy_j = dy + offset + j * s.inner, *y_j = y + offset + j * s.inner;
          T* dx_j = dx + offset + j * s.inner;
          for (std::int64_t i = 0; i < count; ++i)
            dx_j[i] = dy_j[i] - exponential(y_j[i]) * dy_sum[i];
        }
      });
}

}  // namespace

void get(LogSoftmaxKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(LogSoftmaxKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
