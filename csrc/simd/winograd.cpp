#include "simd/winograd.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr int kSamples = static_cast<int>(kBlockLanes);

// B' d and A' m of a line of four values that are `Step` apart.
template <int Step, typename V>
PYNN_INLINE void input_line(const V* d, V* to) {
  to[0] = d[0] - d[2 * Step];
  to[Step] = d[Step] + d[2 * Step];
  to[2 * Step] = d[2 * Step] - d[Step];
  to[3 * Step] = d[Step] - d[3 * Step];
}
template <int Step, typename V>
PYNN_INLINE void output_line(const V* m, V* to) {
  to[0] = m[0] + m[Step] + m[2 * Step];
  to[Step] = m[Step] - m[2 * Step] - m[3 * Step];
}

template <typename T, bool Whole>
PYNN_INLINE void input_tile(std::int64_t row, std::uint32_t inside, const T* x, std::int64_t at,
                            std::int64_t point, T* points) {
  constexpr int lanes = kLanes<T>;
  for (int lane = 0; lane < kSamples; lane += lanes) {
    Vector<T> d[16], columns[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const std::int64_t pixel = at + i / 4 * row + i % 4 * kSamples + lane;
      d[i] = Whole || (inside >> i & 1) ? load(x + pixel) : Vector<T>{};
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) input_line<4>(d + j, columns + j);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Vector<T> line[4];
      input_line<1>(columns + 4 * i, line);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) store<T>(points + (4 * i + j) * point + lane, line[j]);
    }
  }
}

template <typename T>
void input(const WinogradTiles& s, const T* x, T* points) {
  for (std::int64_t channel = 0; channel < s.channels; ++channel)
    for (std::int64_t t = 0; t < s.count; ++t) {
      const WinogradTile& tile = s.tiles[t];
      T* const to = points + channel * s.points_row + t * kSamples;
      const std::int64_t at = channel * s.plane + tile.at;
      if (tile.inside == 0xffff)
        input_tile<T, true>(s.row, tile.inside, x, at, s.point, to);
      else
        input_tile<T, false>(s.row, tile.inside, x, at, s.point, to);
    }
}

template <typename T>
void output(const WinogradTiles& s, const T* points, const WinogradResult<T>& result, T* y) {
  constexpr int lanes = kLanes<T>;
  for (std::int64_t channel = 0; channel < s.channels; ++channel) {
    const Vector<T> bias = broadcast(result.bias ? result.bias[channel] : T(0));
    for (std::int64_t t = 0; t < s.count; ++t) {
      const WinogradTile& tile = s.tiles[t];
      const T* const from = points + channel * s.points_row + t * kSamples;
      const std::int64_t at = channel * s.plane + tile.at;
      for (int lane = 0; lane < kSamples; lane += lanes) {
        Vector<T> rows[8], sums[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          Vector<T> m[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) m[i] = load(from + (4 * i + j) * s.point + lane);
          Vector<T> pair[2];
          output_line<1>(m, pair);
          rows[j] = pair[0];
          rows[4 + j] = pair[1];
        }
        output_line<1>(rows, sums);
        output_line<1>(rows + 4, sums + 2);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          if (!(tile.inside >> i & 1)) continue;
          const std::int64_t pixel = at + i / 2 * s.row + i % 2 * kSamples + lane;
          Vector<T> v = sums[i] + bias;
          if (result.accumulate) v = load(y + pixel) + v;
          if (result.relu) v = v < Vector<T>{} ? Vector<T>{} : v;
          if (result.mask) v = load(result.mask + pixel) <= Vector<T>{} ? Vector<T>{} : v;
          store<T>(y + pixel, v);
        }
      }
    }
  }
}

// G g of a line of three values.
template <typename T>
PYNN_INLINE void weight_line(Vector<T> a, Vector<T> b, Vector<T> c, Vector<T>* to, int step) {
  const Vector<T> half = broadcast(T(0.5)), outer = half * (a + c), inner = half * b;
  to[0] = a;
  to[step] = outer + inner;
  to[2 * step] = outer - inner;
  to[3 * step] = c;
}

template <typename T>
void weights(std::int64_t width, std::int64_t depth, bool turned, const T* g, std::int64_t point,
             T* points) {
  const std::int64_t first = turned ? 8 * width : 0, step = turned ? -width : width;
  for (std::int64_t k = 0; k < depth; ++k)
    for (std::int64_t lane = 0; lane < width; lane += kLanes<T>) {
      const T* const from = g + k * 9 * width + first + lane;
      T* const to = points + k * width + lane;
      Vector<T> columns[12], line[4];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j)
        weight_line<T>(load(from + j * step), load(from + (3 + j) * step),
                       load(from + (6 + j) * step), columns + j, 3);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        weight_line<T>(columns[3 * i], columns[3 * i + 1], columns[3 * i + 2], line, 1);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store<T>(to + (4 * i + j) * point, line[j]);
      }
    }
}

template <typename T>
WinogradKernels<T> kernels() {
  return {input<T>, output<T>, weights<T>};
}

}  // namespace

void get(WinogradKernels<float>& k) { k = kernels<float>(); }
void get(WinogradKernels<double>& k) { k = kernels<double>(); }

}  // namespace pynn::PYNN_ISA
