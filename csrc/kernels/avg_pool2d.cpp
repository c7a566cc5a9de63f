#include "kernels/avg_pool2d.h"

#include "simd/sum.h"

namespace pynn::PYNN_ISA {
namespace {

struct Span {  // begin ... end inside the image; `padded` counts those inside the padded image
  std::int64_t begin, end, padded;
};

Span span(std::int64_t at, std::int64_t kernel, std::int64_t size, std::int64_t padding_after) {
  const std::int64_t end = at + kernel < size + padding_after ? at + kernel : size + padding_after;
  return {at > 0 ? at : 0, end < size ? end : size, end - at};
}

// Calls visit(position, rows, columns, divisor) for each window of a plane.
template <typename Visit>
inline __attribute__((always_inline)) void each_window(const Window& w, bool count_include_pad,
                                                       const Visit& visit) {
  for (std::int64_t oh = 0; oh < w.OH; ++oh) {
    const Span rows = span(oh * w.stride_h - w.top, w.KH, w.H, w.bottom);
    for (std::int64_t ow = 0; ow < w.OW; ++ow) {
      const Span columns = span(ow * w.stride_w - w.left, w.KW, w.W, w.right);
      const std::int64_t divisor = count_include_pad
                                       ? rows.padded * columns.padded
                                       : (rows.end - rows.begin) * (columns.end - columns.begin);
      visit(oh * w.OW + ow, rows, columns, static_cast<double>(divisor));
    }
  }
}

template <typename T>
void forward(const Window& w, bool count_include_pad, std::int64_t begin, std::int64_t end,
             const T* x, T* y) {
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* const image = x + plane * w.H * w.W;
    T* const out = y + plane * w.OH * w.OW;
    each_window(w, count_include_pad,
                [&](std::int64_t position, const Span& rows, const Span& columns, double divisor) {
                  double sum = 0;
                  for (std::int64_t i = rows.begin; i < rows.end; ++i)
                    for (std::int64_t j = columns.begin; j < columns.end; ++j)
                      sum += static_cast<double>(image[i * w.W + j]);
                  out[position] = static_cast<T>(sum / divisor);
                });
  }
}

template <typename T>
void backward(const Window& w, bool count_include_pad, std::int64_t begin, std::int64_t end,
              const T* dy, T* dx) {
  const std::int64_t pixels = w.H * w.W;
  for (std::int64_t i = begin * pixels; i < end * pixels; ++i) dx[i] = T(0);
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* const gradient = dy + plane * w.OH * w.OW;
    T* const image = dx + plane * pixels;
    each_window(w, count_include_pad,
                [&](std::int64_t position, const Span& rows, const Span& columns, double divisor) {
                  const T share = static_cast<T>(static_cast<double>(gradient[position]) / divisor);
                  for (std::int64_t i = rows.begin; i < rows.end; ++i)
                    for (std::int64_t j = columns.begin; j < columns.end; ++j)
                      image[i * w.W + j] += share;
                });
  }
}

template <typename T>
void global_forward(std::int64_t pixels, std::int64_t begin, std::int64_t end, const T* x, T* y) {
  for (std::int64_t plane = begin; plane < end; ++plane)
    y[plane] =
        static_cast<T>(sum_in_double(pixels, x + plane * pixels) / static_cast<double>(pixels));
}

template <typename T>
void global_backward(std::int64_t pixels, std::int64_t begin, std::int64_t end, const T* dy,
                     T* dx) {
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T share = static_cast<T>(static_cast<double>(dy[plane]) / static_cast<double>(pixels));
    for (std::int64_t i = plane * pixels; i < (plane + 1) * pixels; ++i) dx[i] = share;
  }
}

}  // namespace

void get(AvgPool2dKernels<float>& k) {
  k = {forward<float>, backward<float>, global_forward<float>, global_backward<float>};
}
void get(AvgPool2dKernels<double>& k) {
  k = {forward<double>, backward<double>, global_forward<double>, global_backward<double>};
}

}  // namespace pynn::PYNN_ISA
