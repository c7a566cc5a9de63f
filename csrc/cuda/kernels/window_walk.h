// A window over images (planes, H, W, N), as the kernels of pools walk it.
#pragma once

#include "cuda/kernels/index.h"
#include "kernels/window.h"

namespace pynn::cuda {

struct WindowWalk {
  int N, H, W, KH, KW, OH, OW, stride_h, stride_w, top, left, bottom, right;
  Divider samples, across, down, pixels_across, pixels_down;

  WindowWalk(const Window& w, std::int64_t planes, std::int64_t batch)
      : N(narrow(batch)),
        H(narrow(w.H)),
        W(narrow(w.W)),
        KH(narrow(w.KH)),
        KW(narrow(w.KW)),
        OH(narrow(w.OH)),
        OW(narrow(w.OW)),
        stride_h(narrow(w.stride_h)),
        stride_w(narrow(w.stride_w)),
        top(narrow(w.top)),
        left(narrow(w.left)),
        bottom(narrow(w.bottom)),
        right(narrow(w.right)),
        samples(N),
        across(OW),
        down(OH),
        pixels_across(W),
        pixels_down(H) {
    narrow(planes, w.H, w.W, batch);
    narrow(planes, w.OH, w.OW, batch);
    narrow(w.KH, w.KW);
    narrow(w.H + w.top + w.bottom + w.KH);
    narrow(w.W + w.left + w.right + w.KW);
  }

  struct Element {
    int plane, row, column, sample;
  };
  __device__ __forceinline__ Element position(int i) const { return split(i, across, down); }
  __device__ __forceinline__ Element pixel_at(int i) const {
    return split(i, pixels_across, pixels_down);
  }
  // Where a pixel lies; row and column may be outside of the image.
  __device__ __forceinline__ std::ptrdiff_t pixel(int plane, int row, int column,
                                                  int sample) const {
    return (static_cast<std::ptrdiff_t>(plane) * H * W + row * W + column) * N + sample;
  }

  // Along one axis: where a window starts, and which of its pixels are inside the image; `padded`
  // of them are inside the padded image.
  struct Span {
    int start, begin, end, padded;
  };
  __device__ __forceinline__ Span rows(int oh) const {
    return span(oh * stride_h - top, KH, H, bottom);
  }
  __device__ __forceinline__ Span columns(int ow) const {
    return span(ow * stride_w - left, KW, W, right);
  }

  // The positions begin ... end whose windows cover a pixel.
  struct Range {
    int begin, end;
  };
  __device__ __forceinline__ Range rows_over(int h) const {
    return over(h + top, KH, stride_h, OH);
  }
  __device__ __forceinline__ Range columns_over(int w) const {
    return over(w + left, KW, stride_w, OW);
  }

 private:
  __device__ __forceinline__ Element split(int i, const Divider& columns,
                                           const Divider& rows) const {
    Element element;
    int place, line;
    element.sample = samples.split(i, place);
    element.column = columns.split(place, line);
    element.row = rows.split(line, element.plane);
    return element;
  }
  static __device__ __forceinline__ Span span(int start, int kernel, int size, int after) {
    const int end = min(start + kernel, size + after);
    return {start, max(-start, 0), min(end, size) - start, end - start};
  }
  static __device__ __forceinline__ Range over(int pixel, int kernel, int stride, int positions) {
    const int first = pixel - kernel + 1;
    return {first <= 0 ? 0 : (first + stride - 1) / stride, min(pixel / stride + 1, positions)};
  }
};

}  // namespace pynn::cuda
