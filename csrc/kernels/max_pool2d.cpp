#include "kernels/max_pool2d.h"

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

}  // namespace

void get(MaxPool2dKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(MaxPool2dKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
