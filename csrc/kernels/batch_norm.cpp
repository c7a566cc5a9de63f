// Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
// covariate shift", 2015.
#include "kernels/batch_norm.h"

#include "simd/math.h"
#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kChannels = 64;  // channels side by side, where inner is 1

// Sets sums[c - first] to the sum over n and i of value(the index of (n, c, i), c), for the
// channels first ... last, at most kChannels of them.
template <typename Value>
inline void channel_sums(const BatchNormShape& s, std::int64_t first, std::int64_t last,
                         const Value& value, double* sums) {
  if (s.inner == 1) {
    double local[kChannels] = {};
    for (std::int64_t n = 0; n < s.N; ++n)
      for (std::int64_t c = first; c < last; ++c) local[c - first] += value(n * s.C + c, c);
    for (std::int64_t c = first; c < last; ++c) sums[c - first] = local[c - first];
    return;
  }
  for (std::int64_t c = first; c < last; ++c) {
    double lanes[kLanes] = {};
    for (std::int64_t n = 0; n < s.N; ++n) {
      const std::int64_t row = (n * s.C + c) * s.inner;
      accumulate(lanes, s.inner, [&](std::int64_t i) { return value(row + i, c); });
    }
    sums[c - first] = total(lanes);
  }
}

// Calls value(index of (n, c, i), c) for all n and i of the channels first ... last.
template <typename Value>
inline void for_each_value(const BatchNormShape& s, std::int64_t first, std::int64_t last,
                           const Value& value) {
  for (std::int64_t n = 0; n < s.N; ++n) {
    if (s.inner == 1) {
      for (std::int64_t c = first; c < last; ++c) value(n * s.C + c, c);
      continue;
    }
    for (std::int64_t c = first; c < last; ++c) {
      const std::int64_t row = (n * s.C + c) * s.inner;
      for (std::int64_t i = 0; i < s.inner; ++i) value(row + i, c);
    }
  }
}

inline std::int64_t minimum(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

inline double inverse_deviation(double var, double eps) { return 1 / square_root(var + eps); }

template <typename T>
void statistics(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* x, T* mean,
                T* var) {
  const auto count = static_cast<double>(s.count());
  for (std::int64_t first = begin; first < end; first += kChannels) {
    const std::int64_t last = minimum(first + kChannels, end);
    double centre[kChannels], squares[kChannels];
    channel_sums(
        s, first, last, [=](std::int64_t index, std::int64_t) { return double(x[index]); }, centre);
    for (std::int64_t c = first; c < last; ++c) centre[c - first] /= count;
    channel_sums(
        s, first, last,
        [=, &centre](std::int64_t index, std::int64_t c) {
          const double difference = double(x[index]) - centre[c - first];
          return difference * difference;
        },
        squares);
    for (std::int64_t c = first; c < last; ++c) {
      mean[c] = static_cast<T>(centre[c - first]);
      var[c] = static_cast<T>(squares[c - first] / count);
    }
  }
}

template <typename T>
void forward(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* x,
             const T* mean, const T* var, const T* weight, const T* bias, double eps, T* y) {
  for (std::int64_t first = begin; first < end; first += kChannels) {
    const std::int64_t last = minimum(first + kChannels, end);
    T centre[kChannels], scale[kChannels], shift[kChannels];
    for (std::int64_t c = first; c < last; ++c) {
      centre[c - first] = mean[c];
      scale[c - first] =
          static_cast<T>(inverse_deviation(var[c], eps) * (weight ? double(weight[c]) : 1.0));
      shift[c - first] = bias ? bias[c] : T(0);
    }
    for_each_value(s, first, last, [&](std::int64_t index, std::int64_t c) {
      y[index] = (x[index] - centre[c - first]) * scale[c - first] + shift[c - first];
    });
  }
}

// With x' = (x - mean) / sqrt(var + eps) and m = count():
//   dbias = sum dy, dweight = sum dy x', and in training dx = weight / sqrt(var + eps) * (dy -
//   dbias / m - x' dweight / m).
template <typename T>
void backward(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* dy,
              const T* x, const T* mean, const T* var, const T* weight, bool training, double eps,
              T* dx, T* dweight, T* dbias) {
  const double count = s.count() ? static_cast<double>(s.count()) : 1.0;
  for (std::int64_t first = begin; first < end; first += kChannels) {
    const std::int64_t last = minimum(first + kChannels, end);
    double sums[kChannels] = {}, products[kChannels] = {};
    T centre[kChannels];
    for (std::int64_t c = first; c < last; ++c) centre[c - first] = mean[c];
    if (dbias || (dx && training))
      channel_sums(
          s, first, last, [=](std::int64_t index, std::int64_t) { return double(dy[index]); },
          sums);
    if (dweight || (dx && training))
      channel_sums(
          s, first, last,
          [=, &centre](std::int64_t index, std::int64_t c) {
            return double(dy[index]) * double(x[index] - centre[c - first]);
          },
          products);
    T scale[kChannels], offset[kChannels], slope[kChannels];
    for (std::int64_t c = first; c < last; ++c) {
      const double inverse = inverse_deviation(var[c], eps);
      if (dbias) dbias[c] = static_cast<T>(sums[c - first]);
      if (dweight) dweight[c] = static_cast<T>(products[c - first] * inverse);
      scale[c - first] = static_cast<T>(inverse * (weight ? double(weight[c]) : 1.0));
      offset[c - first] = static_cast<T>(sums[c - first] / count);
      slope[c - first] = static_cast<T>(products[c - first] * inverse * inverse / count);
    }
    if (dx && training)
      for_each_value(s, first, last, [&](std::int64_t index, std::int64_t c) {
        const std::int64_t k = c - first;
        dx[index] = scale[k] * (dy[index] - offset[k] - (x[index] - centre[k]) * slope[k]);
      });
    else if (dx)
      for_each_value(s, first, last, [&](std::int64_t index, std::int64_t c) {
        dx[index] = scale[c - first] * dy[index];
      });
  }
}

}  // namespace

void get(BatchNormKernels<float>& k) { k = {statistics<float>, forward<float>, backward<float>}; }
void get(BatchNormKernels<double>& k) {
  k = {statistics<double>, forward<double>, backward<double>};
}

}  // namespace pynn::PYNN_ISA
