// Strips of the padded image, from which tiles of a few rows of y, a vector wide, read what they
// need: neighbouring rows share it.
#include "kernels/depthwise.h"

#include "kernels/padded.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kMostTaps = 64;
constexpr int kTileRows = 4;
constexpr std::int64_t kStripElements = 6 * 1024;  // of the padded image: they stay in the cache

PYNN_INLINE std::int64_t pitch_of(const Window& w) { return w.OW + w.KW - 1; }

std::int64_t strip_rows(const Window& w) {
  const std::int64_t rows = kStripElements / pitch_of(w) - (w.KH - 1);
  return rows < kTileRows ? kTileRows : rows;
}

// y (R, a vector) = b + the taps that see it. K: the size of the kernel; 0: any.
template <typename T, int R, int K>
PYNN_INLINE void tile(const Window& window, const T* image, std::int64_t pitch, const T* w, T b,
                      Vector<T> (&sum)[R]) {
  const std::int64_t KH = K ? K : window.KH, KW = K ? K : window.KW;
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r] = broadcast(b);
#pragma GCC unroll 8
  for (std::int64_t i = 0; i < KH + R - 1; ++i)
#pragma GCC unroll 8
    for (std::int64_t kw = 0; kw < KW; ++kw) {
      const Vector<T> pixels = load(image + i * pitch + kw);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        if (i - r >= 0 && i - r < KH) sum[r] = fma(broadcast(w[(i - r) * KW + kw]), pixels, sum[r]);
    }
}

template <typename T, int R, int K>
void row_tiles(const Window& window, const T* image, const T* w, T b, T* y) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t pitch = pitch_of(window), width = window.OW;
  T taps[K ? K * K : kMostTaps];  // so that no store can seem to change them
  for (std::int64_t i = 0; i < window.KH * window.KW; ++i) taps[i] = w[i];
  Vector<T> sum[R];
  std::int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    tile<T, R, K>(window, image + i, pitch, taps, b, sum);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) store<T>(y + r * width + i, sum[r]);
  }
  if (i == width) return;
  // The last pixels: with some before them again, or with what lies behind them in memory.
  const std::int64_t first = width < lanes ? 0 : width - lanes;
  tile<T, R, K>(window, image + first, pitch, taps, b, sum);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (width >= lanes) {
      store<T>(y + r * width + first, sum[r]);
    } else {
      T edge[lanes];
      store<T>(edge, sum[r]);
      copy_run(width, edge, y + r * width);
    }
  }
}

template <typename T, int K>
void forward_with(const Window& window, std::int64_t begin, std::int64_t end, const T* x,
                  const T* w, T b, T* y, T* image) {
  const std::int64_t pitch = pitch_of(window), step = strip_rows(window);
  for (std::int64_t strip = begin; strip < end; strip += step) {
    const std::int64_t last = strip + step < end ? strip + step : end;
    copy_padded(window, pitch, strip, last - strip + window.KH - 1, x, image);
    std::int64_t row = strip;
    for (; row + kTileRows <= last; row += kTileRows)
      row_tiles<T, kTileRows, K>(window, image + (row - strip) * pitch, w, b, y + row * window.OW);
    for (; row < last; ++row)
      row_tiles<T, 1, K>(window, image + (row - strip) * pitch, w, b, y + row * window.OW);
  }
}

template <typename T>
void forward(const Window& window, std::int64_t begin, std::int64_t end, const T* x, const T* w,
             T b, T* y, T* scratch) {
  if (window.KH == 3 && window.KW == 3)
    forward_with<T, 3>(window, begin, end, x, w, b, y, scratch);
  else if (window.KH == 5 && window.KW == 5)
    forward_with<T, 5>(window, begin, end, x, w, b, y, scratch);
  else
    forward_with<T, 0>(window, begin, end, x, w, b, y, scratch);
}

// The convolution of dy, padded, with the kernel the other way round.
template <typename T>
void backward_input(const Window& window, const T* dy, const T* w, T* dx, T* scratch) {
  Window back = window;
  back.H = window.OH, back.W = window.OW, back.OH = window.H, back.OW = window.W;
  back.top = window.KH - 1 - window.top, back.left = window.KW - 1 - window.left;
  T turned[kMostTaps];
  const std::int64_t taps = window.KH * window.KW;
  for (std::int64_t i = 0; i < taps; ++i) turned[i] = w[taps - 1 - i];
  forward(back, 0, back.OH, dy, turned, T(0), dx, scratch);
}

// sums (KH, KW, a vector) += the products of strips of dy and x, for G rows and C columns of the
// kernel at a time.
template <typename T, int G, int C>
void add_weight_gradient(const Window& window, const T* dy, const T* x, T* sums, T* scratch) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t pitch = pitch_of(window), step = strip_rows(window);
  const std::int64_t vectors = (window.OW + lanes - 1) / lanes;
  const std::int64_t rest = window.OW - (vectors - 1) * lanes;  // lanes of the last one
  T edge[lanes] = {};
  for (std::int64_t strip = 0; strip < window.OH; strip += step) {
    const std::int64_t rows = strip + step < window.OH ? step : window.OH - strip;
    copy_padded(window, pitch, strip, rows + window.KH - 1, x, scratch);
    for (std::int64_t kh = 0; kh < window.KH; kh += G)
      for (std::int64_t kw = 0; kw < window.KW; kw += C) {
        T* const here = sums + (kh * window.KW + kw) * lanes;
        Vector<T> sum[G][C];
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g)
#pragma GCC unroll 8
          for (int c = 0; c < C; ++c) sum[g][c] = load(here + (g * window.KW + c) * lanes);
        const auto add = [&](typename VectorType<T>::type gradient, const T* image, bool whole) {
#pragma GCC unroll 4
          for (int g = 0; g < G; ++g)
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
              const Vector<T> pixels = load(image + g * pitch + c);
              // What lies behind the last pixel may be infinite.
              sum[g][c] = fma(gradient, whole ? pixels : first_lanes<T>(rest, pixels, Vector<T>{}),
                              sum[g][c]);
            }
        };
        for (std::int64_t row = 0; row < rows; ++row) {
          const T* const dy_row = dy + (strip + row) * window.OW;
          const T* const image = scratch + (row + kh) * pitch + kw;
          std::int64_t i = 0;
          for (; i + lanes <= window.OW; i += lanes) add(load(dy_row + i), image + i, true);
          if (i == window.OW) continue;
          copy_run(rest, dy_row + i, edge);
          add(load(edge), image + i, false);
        }
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g)
#pragma GCC unroll 8
          for (int c = 0; c < C; ++c) store<T>(here + (g * window.KW + c) * lanes, sum[g][c]);
      }
  }
}

template <typename T>
void backward_weight(const Window& window, std::int64_t count, const T* dy, std::int64_t dy_step,
                     const T* x, std::int64_t x_step, T* dw, T* scratch) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t taps = window.KH * window.KW;
  alignas(64) T sums[kMostTaps * lanes];
  for (std::int64_t i = 0; i < taps * lanes; ++i) sums[i] = T(0);
  for (std::int64_t n = 0; n < count; ++n, dy += dy_step, x += x_step) {
    if (window.KH == 3 && window.KW == 3)
      add_weight_gradient<T, 3, 3>(window, dy, x, sums, scratch);
    else if (window.KH == 5 && window.KW == 5)
      add_weight_gradient<T, 1, 5>(window, dy, x, sums, scratch);
    else
      add_weight_gradient<T, 1, 1>(window, dy, x, sums, scratch);
  }
  for (std::int64_t i = 0; i < taps; ++i) {
    T* const sum = sums + i * lanes;
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
    dw[i] = sum[0];
  }
}

}  // namespace

bool is_depthwise(const Conv2dShape& s) {
  const Window& w = s.window;
  const std::int64_t pitch = pitch_of(w) > w.W + w.KW - 1 ? pitch_of(w) : w.W + w.KW - 1;
  return s.C == s.groups && s.O == s.groups && w.stride_h == 1 && w.stride_w == 1 &&
         w.dilation_h == 1 && w.dilation_w == 1 && w.KH * w.KW <= kMostTaps && w.KH * w.KW > 1 &&
         w.top < w.KH && w.left < w.KW && w.OH + w.KH - 1 - w.top - w.H < w.KH &&
         w.OW + w.KW - 1 - w.left - w.W < w.KW && w.OH > 0 && w.OW > 0 && w.H > 0 && w.W > 0 &&
         (w.KH + kTileRows) * pitch + kStripElements < kDepthwiseScratch;
}

#define PYNN_DEPTHWISE(T)                                                                      \
  void depthwise(const Window& window, std::int64_t begin, std::int64_t end, const T* x,       \
                 const T* w, T b, T* y, T* scratch) {                                          \
    forward(window, begin, end, x, w, b, y, scratch);                                          \
  }                                                                                            \
  void depthwise_backward_input(const Window& window, const T* dy, const T* w, T* dx,          \
                                T* scratch) {                                                  \
    backward_input(window, dy, w, dx, scratch);                                                \
  }                                                                                            \
  void depthwise_backward_weight(const Window& window, std::int64_t count, const T* dy,        \
                                 std::int64_t dy_step, const T* x, std::int64_t x_step, T* dw, \
                                 T* scratch) {                                                 \
    backward_weight(window, count, dy, dy_step, x, x_step, dw, scratch);                       \
  }
PYNN_DEPTHWISE(float)
PYNN_DEPTHWISE(double)
#undef PYNN_DEPTHWISE

}  // namespace pynn::PYNN_ISA
