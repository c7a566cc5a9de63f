#include "cuda/kernels/max_pool2d.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/window_walk.h"

namespace pynn::cuda {
namespace {

template <typename T, typename Code>
struct Forward {
  WindowWalk w;
  const T* x;
  T* y;
  Code* codes;
  __device__ __forceinline__ void operator()(int i) const {
    const auto at = w.position(i);
    const auto rows = w.rows(at.row), columns = w.columns(at.column);
    const T* const image = x + w.pixel(at.plane, rows.start, columns.start, at.sample);
    T best = T(0);
    int code = -1;
    for (int kh = rows.begin; kh < rows.end; ++kh)
      for (int kw = columns.begin; kw < columns.end; ++kw) {
        const T value = image[(kh * w.W + kw) * w.N];
        // The first of equal values wins, and the first NaN over everything.
        if (code < 0 || (!(value <= best) && best == best)) best = value, code = kh * w.KW + kw;
      }
    y[i] = best;
    if (codes) codes[i] = static_cast<Code>(code);
  }
};

template <typename T, typename Code>
struct Backward {
  WindowWalk w;
  const T* dy;
  const Code* codes;
  ActivationOf<T> activation;
  const T* at;
  bool add;
  T* dx;
  __device__ __forceinline__ void operator()(int i) const {
    const auto pixel = w.pixel_at(i);
    const auto rows = w.rows_over(pixel.row), columns = w.columns_over(pixel.column);
    T sum = 0;
    for (int oh = rows.begin; oh < rows.end; ++oh)
      for (int ow = columns.begin; ow < columns.end; ++ow) {
        const int place = ((pixel.plane * w.OH + oh) * w.OW + ow) * w.N + pixel.sample;
        const int code =
            (pixel.row + w.top - oh * w.stride_h) * w.KW + pixel.column + w.left - ow * w.stride_w;
        if (static_cast<int>(codes[place]) != code) continue;
        sum += at ? activation.backward(dy[place], at[place]) : dy[place];
      }
    store(dx + i, sum, add);
  }
};

template <typename Code>
struct Indices {
  WindowWalk w;
  const Code* codes;
  std::int64_t* argmax;
  __device__ __forceinline__ void operator()(int i) const {
    const auto at = w.position(i);
    const int code = static_cast<int>(codes[i]);
    argmax[i] = std::int64_t{at.row * w.stride_h - w.top + code / w.KW} * w.W +
                at.column * w.stride_w - w.left + code % w.KW;
  }
};

}  // namespace

template <typename T, typename Code>
void max_pool2d_forward(const Window& w, std::int64_t planes, std::int64_t N, const T* x, T* y,
                        Code* codes, cudaStream_t stream) {
  const WindowWalk walk(w, planes, N);
  pointwise(narrow(planes, w.OH, w.OW, N), Forward<T, Code>{walk, x, y, codes}, stream);
}

template <typename T, typename Code>
void max_pool2d_backward(const Window& w, std::int64_t planes, std::int64_t N, const T* dy,
                         const Code* codes, const Activation& activation, const T* at, bool add,
                         T* dx, cudaStream_t stream) {
  const WindowWalk walk(w, planes, N);
  if (activation.kind == Activation::Kind::none) at = nullptr;
  pointwise(narrow(planes, w.H, w.W, N),
            Backward<T, Code>{walk, dy, codes, ActivationOf<T>(activation), at, add, dx}, stream);
}

template <typename Code>
void max_pool2d_indices(const Window& w, std::int64_t planes, std::int64_t N, const Code* codes,
                        std::int64_t* argmax, cudaStream_t stream) {
  const WindowWalk walk(w, planes, N);
  pointwise(narrow(planes, w.OH, w.OW, N), Indices<Code>{walk, codes, argmax}, stream);
}

#define PYNN_INSTANTIATE(T, Code)                                                                  \
  template void max_pool2d_forward(const Window&, std::int64_t, std::int64_t, const T*, T*, Code*, \
                                   cudaStream_t);                                                  \
  template void max_pool2d_backward(const Window&, std::int64_t, std::int64_t, const T*,           \
                                    const Code*, const Activation&, const T*, bool, T*,            \
                                    cudaStream_t);
PYNN_INSTANTIATE(float, std::uint8_t)
PYNN_INSTANTIATE(float, std::int32_t)
PYNN_INSTANTIATE(double, std::uint8_t)
PYNN_INSTANTIATE(double, std::int32_t)
template void max_pool2d_indices(const Window&, std::int64_t, std::int64_t, const std::uint8_t*,
                                 std::int64_t*, cudaStream_t);
template void max_pool2d_indices(const Window&, std::int64_t, std::int64_t, const std::int32_t*,
                                 std::int64_t*, cudaStream_t);

}  // namespace pynn::cuda
