// Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
// covariate shift", 2015.
#include "kernels/batch_norm.h"

#include "simd/math.h"
#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kChannels = 64;  // channels handled together
constexpr std::int64_t kNarrow =
    16;  // up to this inner size all the values of those channels are summed side by side

// A number for each of a block's channels. Where channels are narrow it is repeated `inner` times,
// so that one loop can run over all the values of the block in a sample: `slot` is the place of a
// value's number.
template <typename T>
struct PerChannel {
  T value[kChannels * kNarrow];
  void set(const BatchNormShape& s, std::int64_t channel, T number) {
    const std::int64_t copies = s.inner <= kNarrow ? s.inner : 1;
    for (std::int64_t i = 0; i < copies; ++i) value[channel * copies + i] = number;
  }
  T operator[](std::int64_t slot) const { return value[slot]; }
};

// Adds up each value(index, slot) over n and i: sums[k][c - first] for the k-th value, of the
// channels first ... last.
template <typename... Values>
inline void channel_sums(const BatchNormShape& s, std::int64_t first, std::int64_t last,
                         double (*sums)[kChannels], const Values&... values) {
  constexpr int kValues = sizeof...(Values);
  if (s.inner <= kNarrow) {
    const std::int64_t width = (last - first) * s.inner;
    double slots[kValues][kChannels * kNarrow] = {};
    for (std::int64_t n = 0; n < s.N; ++n) {
      const std::int64_t row = (n * s.C + first) * s.inner;
      for (std::int64_t slot = 0; slot < width; ++slot) {
        int k = 0;
        ((slots[k++][slot] += values(row + slot, slot)), ...);
      }
    }
    for (int k = 0; k < kValues; ++k)
      for (std::int64_t slot = 0; slot < width; ++slot) {
        double& channel = sums[k][slot / s.inner];
        channel = slot % s.inner ? channel + slots[k][slot] : slots[k][slot];
      }
    return;
  }
  for (std::int64_t c = first; c < last; ++c) {
    double lanes[kValues][kLanes] = {};
    for (std::int64_t n = 0; n < s.N; ++n) {
      const std::int64_t row = (n * s.C + c) * s.inner, slot = c - first;
      int k = 0;
      (accumulate(lanes[k++], s.inner, [&](std::int64_t i) { return values(row + i, slot); }), ...);
    }
    for (int k = 0; k < kValues; ++k) sums[k][c - first] = total(lanes[k]);
  }
}

// Calls value(index, slot) for all the values of the channels first ... last.
template <typename Value>
inline void for_each_value(const BatchNormShape& s, std::int64_t first, std::int64_t last,
                           const Value& value) {
  for (std::int64_t n = 0; n < s.N; ++n) {
    const std::int64_t row = (n * s.C + first) * s.inner;
    if (s.inner <= kNarrow) {
      for (std::int64_t slot = 0; slot < (last - first) * s.inner; ++slot) value(row + slot, slot);
      continue;
    }
    for (std::int64_t slot = 0; slot < last - first; ++slot)
      for (std::int64_t i = 0; i < s.inner; ++i) value(row + slot * s.inner + i, slot);
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
    double sums[1][kChannels];
    PerChannel<double> centre;
    channel_sums(s, first, last, sums,
                 [=](std::int64_t index, std::int64_t) { return double(x[index]); });
    for (std::int64_t c = first; c < last; ++c) {
      const double number = sums[0][c - first] / count;
      centre.set(s, c - first, number);
      mean[c] = static_cast<T>(number);
    }
    channel_sums(s, first, last, sums, [x, &centre](std::int64_t index, std::int64_t slot) {
      const double difference = double(x[index]) - centre[slot];
      return difference * difference;
    });
    for (std::int64_t c = first; c < last; ++c) var[c] = static_cast<T>(sums[0][c - first] / count);
  }
}

template <typename T>
void forward(const BatchNormShape& s, std::int64_t begin, std::int64_t end, const T* x,
             const T* mean, const T* var, const T* weight, const T* bias, double eps, T* y) {
  for (std::int64_t first = begin; first < end; first += kChannels) {
    const std::int64_t last = minimum(first + kChannels, end);
    PerChannel<T> centre, scale, shift;
    for (std::int64_t c = first; c < last; ++c) {
      const double factor = inverse_deviation(var[c], eps) * (weight ? double(weight[c]) : 1.0);
      centre.set(s, c - first, mean[c]);
      scale.set(s, c - first, static_cast<T>(factor));
      shift.set(s, c - first, bias ? bias[c] : T(0));
    }
    for_each_value(s, first, last, [&](std::int64_t index, std::int64_t slot) {
      y[index] = (x[index] - centre[slot]) * scale[slot] + shift[slot];
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
    PerChannel<T> centre, scale, offset, slope;
    for (std::int64_t c = first; c < last; ++c) centre.set(s, c - first, mean[c]);
    double sums[2][kChannels] = {};
    if (dweight || dbias || (dx && training))
      channel_sums(
          s, first, last, sums, [=](std::int64_t index, std::int64_t) { return double(dy[index]); },
          [dy, x, &centre](std::int64_t index, std::int64_t slot) {
            return double(dy[index]) * double(x[index] - centre[slot]);
          });
    for (std::int64_t c = first; c < last; ++c) {
      const double inverse = inverse_deviation(var[c], eps), products = sums[1][c - first];
      if (dbias) dbias[c] = static_cast<T>(sums[0][c - first]);
      if (dweight) dweight[c] = static_cast<T>(products * inverse);
      scale.set(s, c - first, static_cast<T>(inverse * (weight ? double(weight[c]) : 1.0)));
      offset.set(s, c - first, static_cast<T>(sums[0][c - first] / count));
      slope.set(s, c - first, static_cast<T>(products * inverse * inverse / count));
    }
    if (dx && training)
      for_each_value(s, first, last, [&](std::int64_t index, std::int64_t slot) {
        dx[index] =
            scale[slot] * (dy[index] - offset[slot] - (x[index] - centre[slot]) * slope[slot]);
      });
    else if (dx)
      for_each_value(s, first, last, [&](std::int64_t index, std::int64_t slot) {
        dx[index] = scale[slot] * dy[index];
      });
  }
}

}  // namespace

void get(BatchNormKernels<float>& k) { k = {statistics<float>, forward<float>, backward<float>}; }
void get(BatchNormKernels<double>& k) {
  k = {statistics<double>, forward<double>, backward<double>};
}

}  // namespace pynn::PYNN_ISA
