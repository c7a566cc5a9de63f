#include "kernels/max_pool2d.h"

#include "simd/outer_product.h"
#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// KH and KW are the sizes of a window that never touches the padding, so that its loops unroll; 0
// where they are not known.
template <typename T, int KH, int KW>
void forward_planes(const Window& w, std::int64_t begin, std::int64_t end, const T* x, T* y,
                    std::int64_t* argmax) {
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* const image = x + plane * w.H * w.W;
    T* y_row = y + plane * w.OH * w.OW;
    std::int64_t* argmax_row = argmax + plane * w.OH * w.OW;
    for (std::int64_t oh = 0; oh < w.OH; ++oh, y_row += w.OW, argmax_row += w.OW) {
      const std::int64_t h = oh * w.stride_h - w.top;
      const std::int64_t h_begin = KH || h > 0 ? h : 0;
      const std::int64_t h_end = KH ? h + KH : (h + w.KH < w.H ? h + w.KH : w.H);
      for (std::int64_t ow = 0; ow < w.OW; ++ow) {
        const std::int64_t v = ow * w.stride_w - w.left;
        const std::int64_t v_begin = KW || v > 0 ? v : 0;
        const std::int64_t v_end = KW ? v + KW : (v + w.KW < w.W ? v + w.KW : w.W);
        std::int64_t best_at = h_begin * w.W + v_begin;
        T best = image[best_at];
        for (std::int64_t i = h_begin; i < h_end; ++i) {
          for (std::int64_t j = v_begin; j < v_end; ++j) {
            const T value = image[i * w.W + j];
            const bool wins = !(value <= best) && best == best;
            best = wins ? value : best;
            best_at = wins ? i * w.W + j : best_at;
          }
        }
        y_row[ow] = best;
        argmax_row[ow] = best_at;
      }
    }
  }
}

template <typename T>
void forward(const Window& w, std::int64_t begin, std::int64_t end, const T* x, T* y,
             std::int64_t* argmax) {
  const bool unpadded = w.top == 0 && w.left == 0 && (w.OH - 1) * w.stride_h + w.KH <= w.H &&
                        (w.OW - 1) * w.stride_w + w.KW <= w.W;
  auto* function = forward_planes<T, 0, 0>;
  if (unpadded && w.KH == 2 && w.KW == 2) function = forward_planes<T, 2, 2>;
  if (unpadded && w.KH == 3 && w.KW == 3) function = forward_planes<T, 3, 3>;
  function(w, begin, end, x, y, argmax);
}

template <typename T>
bool backward(std::int64_t pixels, std::int64_t positions, std::int64_t begin, std::int64_t end,
              const T* dy, const std::int64_t* argmax, T* dx) {
  bool valid = true;
  for (std::int64_t i = begin * pixels; i < end * pixels; ++i) dx[i] = T(0);
  for (std::int64_t plane = begin; plane < end; ++plane) {
    for (std::int64_t i = plane * positions; i < (plane + 1) * positions; ++i) {
      const std::int64_t at = argmax[i];
      if (at >= 0 && at < pixels)
        dx[plane * pixels + at] += dy[i];
      else
        valid = false;
    }
  }
  return valid;
}

// An integer as wide as T.
template <int Bytes>
struct CodeOf {
  using type = std::int64_t;
};
template <>
struct CodeOf<4> {
  using type = std::int32_t;
};
template <typename T>
using Codes = typename CodeOf<sizeof(T)>::type;
template <typename T>
struct CodeVectors {
  typedef Codes<T> wide __attribute__((vector_size(kVectorBytes)));
  typedef std::uint32_t half __attribute__((vector_size(4 * kLanes<T>)));
  typedef std::uint16_t quarter __attribute__((vector_size(2 * kLanes<T>)));
  typedef std::uint8_t narrow __attribute__((vector_size(kLanes<T>)));
};

template <typename T>
PYNN_INLINE typename CodeVectors<T>::wide load_codes(const std::uint8_t* codes) {
  using Vectors = CodeVectors<T>;
  using Wide = typename Vectors::wide;
#if defined(__AVX512F__)  // compilers know of no single instruction for this
  if constexpr (sizeof(T) == 4)
    return (Wide)_mm512_maskz_cvtepu8_epi32(
        0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
#endif
  typename Vectors::narrow narrow;
  __builtin_memcpy(&narrow, codes, sizeof narrow);
  // Step by step: at once, they take each element out.
  const auto wider = __builtin_convertvector(narrow, typename Vectors::quarter);
  if constexpr (sizeof(T) == 4) return __builtin_convertvector(wider, Wide);
  return __builtin_convertvector(__builtin_convertvector(wider, typename Vectors::half), Wide);
}

// The larger of best and value, and where it is; the first of equal values wins, and the first NaN
// over everything.
template <typename T>
PYNN_INLINE void take(typename VectorType<T>::type value, int place,
                      typename VectorType<T>::type& best, typename CodeVectors<T>::wide& code) {
  using Wide = typename CodeVectors<T>::wide;
  const Wide wins = ~(Wide)(value <= best) & (Wide)(best == best);
  best = wins ? value : best;
  code = wins ? Wide{} + static_cast<Codes<T>>(place) : code;
}

PYNN_INLINE bool halves(const Window& w) {
  return w.KH == 2 && w.KW == 2 && w.stride_h == 2 && w.stride_w == 2 && w.top == 0 &&
         w.left == 0 && 2 * w.OH <= w.H && 2 * w.OW <= w.W;
}

// A row of windows of 2 x 2 side by side: `count` of them, at most a vector. x_row is between the
// two rows of x.
template <typename T>
PYNN_INLINE void halve(std::int64_t count, const T* x, std::int64_t x_row, T* y,
                       std::uint8_t* codes) {
  constexpr int lanes = kLanes<T>;
  T edge[4 * lanes];
  if (count < lanes) {
    for (int i = 0; i < 2; ++i) copy_run(2 * count, x + i * x_row, edge + i * 2 * lanes);
    for (int i = 0; i < 2; ++i)
      for (std::int64_t j = 2 * count; j < 2 * lanes; ++j) edge[i * 2 * lanes + j] = T(0);
    x = edge;
    x_row = 2 * lanes;
  }
  typename CodeVectors<T>::wide code = {};
  Vector<T> best = {};
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Vector<T> left = load(x + i * x_row), right = load(x + i * x_row + lanes);
    const Vector<T> even = every_other<T, 1, 0>(left, right);
    const Vector<T> odd = every_other<T, 1, 1>(left, right);
    if (i == 0)
      best = even;
    else
      take<T>(even, 2, best, code);
    take<T>(odd, 2 * i + 1, best, code);
  }
  const auto narrow = __builtin_convertvector(code, typename CodeVectors<T>::narrow);
  if (count == lanes) {
    store<T>(y, best);
    if (codes) __builtin_memcpy(codes, &narrow, sizeof narrow);
    return;
  }
  store<T>(edge, best);
  copy_run(count, edge, y);
  std::uint8_t few[lanes];
  __builtin_memcpy(few, &narrow, sizeof narrow);
  for (std::int64_t i = 0; codes && i < count; ++i) codes[i] = few[i];
}

template <typename T>
void forward_codes(const Window& w, std::int64_t begin, std::int64_t end, const T* x, T* y,
                   std::uint8_t* codes) {
  constexpr int lanes = kLanes<T>;
  const bool by_halves = halves(w);
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* const image = x + plane * w.H * w.W;
    for (std::int64_t oh = 0; oh < w.OH; ++oh) {
      const std::int64_t at = (plane * w.OH + oh) * w.OW;
      if (by_halves) {
        for (std::int64_t ow = 0; ow < w.OW; ow += lanes)
          halve(w.OW - ow < lanes ? w.OW - ow : lanes, image + (2 * oh * w.W + 2 * ow), w.W,
                y + at + ow, codes ? codes + at + ow : nullptr);
        continue;
      }
      const std::int64_t h = oh * w.stride_h - w.top;
      const std::int64_t kh_begin = h < 0 ? -h : 0, kh_end = h + w.KH < w.H ? w.KH : w.H - h;
      for (std::int64_t ow = 0; ow < w.OW; ++ow) {
        const std::int64_t v = ow * w.stride_w - w.left;
        const std::int64_t kw_begin = v < 0 ? -v : 0, kw_end = v + w.KW < w.W ? w.KW : w.W - v;
        const T* const window = image + h * w.W + v;
        std::int64_t code = kh_begin * w.KW + kw_begin;
        T best = window[kh_begin * w.W + kw_begin];
        for (std::int64_t kh = kh_begin; kh < kh_end; ++kh)
          for (std::int64_t kw = kw_begin; kw < kw_end; ++kw) {
            const T value = window[kh * w.W + kw];
            const bool wins = !(value <= best) && best == best;
            best = wins ? value : best;
            code = wins ? kh * w.KW + kw : code;
          }
        y[at + ow] = best;
        if (codes) codes[at + ow] = static_cast<std::uint8_t>(code);
      }
    }
  }
}

// The reverse of halve, into two rows of dx.
template <typename T>
PYNN_INLINE void double_back(std::int64_t count, const T* dy, const std::uint8_t* codes, bool add,
                             T* dx, std::int64_t dx_row) {
  constexpr int lanes = kLanes<T>;
  using Wide = typename CodeVectors<T>::wide;
  T edge[2 * lanes];
  std::uint8_t few[lanes] = {};
  if (count < lanes) {
    copy_run(count, dy, edge);
    for (std::int64_t i = 0; i < count; ++i) few[i] = codes[i];
    dy = edge;
    codes = few;
  }
  const Vector<T> gradient = load(dy), zero = {};
  const Wide code = load_codes<T>(codes);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Vector<T> even = code == Wide{} + static_cast<Codes<T>>(2 * i) ? gradient : zero;
    const Vector<T> odd = code == Wide{} + static_cast<Codes<T>>(2 * i + 1) ? gradient : zero;
    T* const to = dx + i * dx_row;
    T* const pixels = count == lanes ? to : edge;
    if (count < lanes && add) copy_run(2 * count, to, edge);
    const Vector<T> left = interleave_low<T>(even, odd), right = interleave_high<T>(even, odd);
    store<T>(pixels, add ? load(pixels) + left : left);
    store<T>(pixels + lanes, add ? load(pixels + lanes) + right : right);
    if (count < lanes) copy_run(2 * count, edge, to);
  }
}

template <typename T>
void backward_codes(const Window& w, std::int64_t begin, std::int64_t end, const T* dy,
                    const std::uint8_t* codes, bool add, T* dx) {
  constexpr int lanes = kLanes<T>;
  const bool by_halves = halves(w);
  const bool covered = by_halves && 2 * w.OH == w.H && 2 * w.OW == w.W;
  for (std::int64_t plane = begin; plane < end; ++plane) {
    T* const image = dx + plane * w.H * w.W;
    if (!add && !covered)
      for (std::int64_t i = 0; i < w.H * w.W; ++i) image[i] = T(0);
    for (std::int64_t oh = 0; oh < w.OH; ++oh) {
      const std::int64_t at = (plane * w.OH + oh) * w.OW;
      if (by_halves) {
        for (std::int64_t ow = 0; ow < w.OW; ow += lanes)
          double_back(w.OW - ow < lanes ? w.OW - ow : lanes, dy + at + ow, codes + at + ow, add,
                      image + (2 * oh * w.W + 2 * ow), w.W);
        continue;
      }
      for (std::int64_t ow = 0; ow < w.OW; ++ow) {
        const std::int64_t h = oh * w.stride_h - w.top + codes[at + ow] / w.KW;
        const std::int64_t v = ow * w.stride_w - w.left + codes[at + ow] % w.KW;
        image[h * w.W + v] += dy[at + ow];
      }
    }
  }
}

// Codes of these maxima; where one is not above `least`, that no pixel has a gradient.
template <typename T>
PYNN_INLINE void store_codes(const Vector<T>& best, typename CodeVectors<T>::wide code,
                             const Vector<T>& least, std::uint8_t* codes) {
  using Wide = typename CodeVectors<T>::wide;
  code = best <= least ? Wide{} + static_cast<Codes<T>>(kNoPixel) : code;
  const auto narrow = __builtin_convertvector(code, typename CodeVectors<T>::narrow);
  __builtin_memcpy(codes, &narrow, sizeof narrow);
}

// Windows inside the image, of a known size.
template <typename T, int KH, int KW>
PYNN_INLINE void forward_window(const T* window, std::int64_t x_row, T* y, const Vector<T>& least,
                                std::uint8_t* codes) {
  using Wide = typename CodeVectors<T>::wide;
  for (int part = 0; part < kBlockLanes; part += kLanes<T>) {
    Vector<T> best = load(window + part);
    Wide code = {};
#pragma GCC unroll 3
    for (int kh = 0; kh < KH; ++kh)
#pragma GCC unroll 3
      for (int kw = 0; kw < KW; ++kw) {
        if (kh + kw == 0) continue;
        take<T>(load(window + kh * x_row + kw * kBlockLanes + part), kh * KW + kw, best, code);
      }
    store<T>(y + part, best);
    if (codes) store_codes<T>(best, code, least, codes + part);
  }
}

template <typename T, int KH, int KW>
void forward_tiles(const Window w, const T* x, std::int64_t x_row, T* y, std::int64_t y_row,
                   const Vector<T>& least, std::uint8_t* codes) {
  for (std::int64_t oh = 0; oh < w.OH; ++oh)
    for (std::int64_t ow = 0; ow < w.OW; ++ow)
      forward_window<T, KH, KW>(x + oh * w.stride_h * x_row + ow * w.stride_w * kBlockLanes, x_row,
                                y + oh * y_row + ow * kBlockLanes, least,
                                codes ? codes + (oh * w.OW + ow) * kBlockLanes : nullptr);
}

template <typename T>
void forward_block(const Window& w, const T* x, std::int64_t x_row, T* y, std::int64_t y_row,
                   bool of_relu, std::uint8_t* codes) {
  constexpr int lanes = kLanes<T>;
  using Wide = typename CodeVectors<T>::wide;
  // Nothing is less than or equal to NaN.
  const Vector<T> least = Vector<T>{} + (of_relu ? T(0) : static_cast<T>(__builtin_nan("")));
  const bool inside = w.top == 0 && w.left == 0 && (w.OH - 1) * w.stride_h + w.KH <= w.H &&
                      (w.OW - 1) * w.stride_w + w.KW <= w.W;
  if (inside && w.KH == 2 && w.KW == 2)
    return forward_tiles<T, 2, 2>(w, x, x_row, y, y_row, least, codes);
  if (inside && w.KH == 3 && w.KW == 3)
    return forward_tiles<T, 3, 3>(w, x, x_row, y, y_row, least, codes);
  for (std::int64_t oh = 0; oh < w.OH; ++oh) {
    const std::int64_t h = oh * w.stride_h - w.top;
    const std::int64_t kh_begin = h < 0 ? -h : 0, kh_end = h + w.KH < w.H ? w.KH : w.H - h;
    for (std::int64_t ow = 0; ow < w.OW; ++ow) {
      const std::int64_t v = ow * w.stride_w - w.left;
      const std::int64_t kw_begin = v < 0 ? -v : 0, kw_end = v + w.KW < w.W ? w.KW : w.W - v;
      const T* const window = x + h * x_row + v * kBlockLanes;
      for (int part = 0; part < kBlockLanes; part += lanes) {
        Vector<T> best = load(window + kh_begin * x_row + kw_begin * kBlockLanes + part);
        Wide code = Wide{} + static_cast<Codes<T>>(kh_begin * w.KW + kw_begin);
        for (std::int64_t kh = kh_begin; kh < kh_end; ++kh)
          for (std::int64_t kw = kw_begin; kw < kw_end; ++kw) {
            take<T>(load(window + kh * x_row + kw * kBlockLanes + part),
                    static_cast<int>(kh * w.KW + kw), best, code);
          }
        store<T>(y + oh * y_row + ow * kBlockLanes + part, best);
        if (codes) store_codes<T>(best, code, least, codes + (oh * w.OW + ow) * kBlockLanes + part);
      }
    }
  }
}

// Windows that lie side by side: each pixel is written once.
template <typename T, int KH, int KW>
void backward_tiles(const Window w, const T* dy, const std::uint8_t* codes, T* dx) {
  constexpr int lanes = kLanes<T>;
  using Wide = typename CodeVectors<T>::wide;
  const std::int64_t rest = w.W - w.OW * KW;
  for (std::int64_t oh = 0; oh < w.OH; ++oh) {
    T* const rows = dx + oh * KH * w.W * kBlockLanes;
    for (std::int64_t i = 0; i < w.OW * kBlockLanes; i += lanes) {
      const std::int64_t at = oh * w.OW * kBlockLanes + i;
      const Vector<T> gradient = load(dy + at);
      const Wide code = load_codes<T>(codes + at);
      T* const window = rows + i / kBlockLanes * KW * kBlockLanes + i % kBlockLanes;
#pragma GCC unroll 3
      for (int kh = 0; kh < KH; ++kh)
#pragma GCC unroll 3
        for (int kw = 0; kw < KW; ++kw) {
          const Wide here = code == Wide{} + static_cast<Codes<T>>(kh * KW + kw);
          store<T>(window + (kh * w.W + kw) * kBlockLanes, here ? gradient : Vector<T>{});
        }
    }
    for (int kh = 0; kh < KH && rest > 0; ++kh)
      for (std::int64_t i = 0; i < rest * kBlockLanes; ++i)
        rows[(kh * w.W + w.OW * KW) * kBlockLanes + i] = T(0);
  }
  for (std::int64_t i = w.OH * KH * w.W * kBlockLanes; i < w.H * w.W * kBlockLanes; ++i)
    dx[i] = T(0);
}

template <typename T>
void backward_block(const Window& w, const T* dy, const std::uint8_t* codes, bool add, T* dx) {
  constexpr int lanes = kLanes<T>;
  using Wide = typename CodeVectors<T>::wide;
  if (!add) {
    const bool inside = w.top == 0 && w.left == 0 && w.OH * w.KH <= w.H && w.OW * w.KW <= w.W;
    if (inside && w.KH == 2 && w.KW == 2 && w.stride_h == 2 && w.stride_w == 2)
      return backward_tiles<T, 2, 2>(w, dy, codes, dx);
    if (inside && w.KH == 3 && w.KW == 3 && w.stride_h == 3 && w.stride_w == 3)
      return backward_tiles<T, 3, 3>(w, dy, codes, dx);
    for (std::int64_t i = 0; i < w.H * w.W * kBlockLanes; ++i) dx[i] = T(0);
  }
  for (std::int64_t oh = 0; oh < w.OH; ++oh) {
    const std::int64_t h = oh * w.stride_h - w.top;
    const std::int64_t kh_begin = h < 0 ? -h : 0, kh_end = h + w.KH < w.H ? w.KH : w.H - h;
    for (std::int64_t ow = 0; ow < w.OW; ++ow) {
      const std::int64_t v = ow * w.stride_w - w.left;
      const std::int64_t kw_begin = v < 0 ? -v : 0, kw_end = v + w.KW < w.W ? w.KW : w.W - v;
      T* const window = dx + (h * w.W + v) * kBlockLanes;
      for (int part = 0; part < kBlockLanes; part += lanes) {
        const std::int64_t at = (oh * w.OW + ow) * kBlockLanes + part;
        const Vector<T> gradient = load(dy + at);
        const Wide code = load_codes<T>(codes + at);
        for (std::int64_t kh = kh_begin; kh < kh_end; ++kh)
          for (std::int64_t kw = kw_begin; kw < kw_end; ++kw) {
            T* const to = window + (kh * w.W + kw) * kBlockLanes + part;
            const Wide here = code == Wide{} + static_cast<Codes<T>>(kh * w.KW + kw);
            store<T>(to, load(to) + (here ? gradient : Vector<T>{}));
          }
      }
    }
  }
}

}  // namespace

void get(MaxPool2dKernels<float>& k) {
  k = {forward<float>,        backward<float>,      forward_codes<float>,
       backward_codes<float>, forward_block<float>, backward_block<float>};
}
void get(MaxPool2dKernels<double>& k) {
  k = {forward<double>,        backward<double>,      forward_codes<double>,
       backward_codes<double>, forward_block<double>, backward_block<double>};
}

}  // namespace pynn::PYNN_ISA
