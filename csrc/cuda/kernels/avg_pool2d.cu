#include "cuda/kernels/avg_pool2d.h"

#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"
#include "cuda/kernels/window_walk.h"

namespace pynn::cuda {
namespace {

__device__ __forceinline__ double divisor(const WindowWalk::Span& rows,
                                          const WindowWalk::Span& columns, bool count_include_pad) {
  return count_include_pad
             ? static_cast<double>(rows.padded) * columns.padded
             : static_cast<double>(rows.end - rows.begin) * (columns.end - columns.begin);
}

template <typename T>
struct Forward {
  WindowWalk w;
  bool count_include_pad;
  const T* x;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    const auto at = w.position(i);
    const auto rows = w.rows(at.row), columns = w.columns(at.column);
    const T* const image = x + w.pixel(at.plane, rows.start, columns.start, at.sample);
    LongSum<T> sum;
    for (int kh = rows.begin; kh < rows.end; ++kh)
      for (int kw = columns.begin; kw < columns.end; ++kw) sum.add(image[(kh * w.W + kw) * w.N]);
    y[i] = static_cast<T>(sum.total() / divisor(rows, columns, count_include_pad));
  }
};

template <typename T>
struct Backward {
  WindowWalk w;
  bool count_include_pad;
  const T* dy;
  bool add;
  T* dx;
  __device__ __forceinline__ void operator()(int i) const {
    const auto pixel = w.pixel_at(i);
    const auto over_rows = w.rows_over(pixel.row), over_columns = w.columns_over(pixel.column);
    T sum = 0;
    for (int oh = over_rows.begin; oh < over_rows.end; ++oh)
      for (int ow = over_columns.begin; ow < over_columns.end; ++ow) {
        const int place = ((pixel.plane * w.OH + oh) * w.OW + ow) * w.N + pixel.sample;
        sum += static_cast<T>(static_cast<double>(dy[place]) /
                              divisor(w.rows(oh), w.columns(ow), count_include_pad));
      }
    store(dx + i, sum, add);
  }
};

template <typename T>
struct GlobalForward {
  Divider samples;
  int pixels;
  const T* x;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    int plane;
    const int sample = samples.split(i, plane), N = samples.divisor();
    const T* const image = x + static_cast<std::size_t>(plane) * pixels * N + sample;
    LongSum<T> sum;
    for (int p = 0; p < pixels; ++p) sum.add(image[p * N]);
    y[i] = static_cast<T>(sum.total() / pixels);
  }
};

template <typename T>
struct GlobalBackward {
  Divider samples, pixels;
  const T* dy;
  bool add;
  T* dx;
  __device__ __forceinline__ void operator()(int i) const {
    int line, plane;
    const int sample = samples.split(i, line);
    pixels.split(line, plane);
    const T share = static_cast<T>(static_cast<double>(dy[plane * samples.divisor() + sample]) /
                                   pixels.divisor());
    store(dx + i, share, add);
  }
};

}  // namespace

template <typename T>
void avg_pool2d_forward(const Window& w, bool count_include_pad, std::int64_t planes,
                        std::int64_t N, const T* x, T* y, cudaStream_t stream) {
  const WindowWalk walk(w, planes, N);
  pointwise(narrow(planes, w.OH, w.OW, N), Forward<T>{walk, count_include_pad, x, y}, stream);
}
template <typename T>
void avg_pool2d_backward(const Window& w, bool count_include_pad, std::int64_t planes,
                         std::int64_t N, const T* dy, bool add, T* dx, cudaStream_t stream) {
  const WindowWalk walk(w, planes, N);
  pointwise(narrow(planes, w.H, w.W, N), Backward<T>{walk, count_include_pad, dy, add, dx}, stream);
}
template <typename T>
void global_avg_pool2d_forward(std::int64_t planes, std::int64_t pixels, std::int64_t N, const T* x,
                               T* y, cudaStream_t stream) {
  narrow(planes, pixels, N);
  pointwise(narrow(planes, N), GlobalForward<T>{Divider(narrow(N)), narrow(pixels), x, y}, stream);
}
template <typename T>
void global_avg_pool2d_backward(std::int64_t planes, std::int64_t pixels, std::int64_t N,
                                const T* dy, bool add, T* dx, cudaStream_t stream) {
  pointwise(narrow(planes, pixels, N),
            GlobalBackward<T>{Divider(narrow(N)), Divider(narrow(pixels)), dy, add, dx}, stream);
}

#define PYNN_INSTANTIATE(T)                                                                       \
  template void avg_pool2d_forward(const Window&, bool, std::int64_t, std::int64_t, const T*, T*, \
                                   cudaStream_t);                                                 \
  template void avg_pool2d_backward(const Window&, bool, std::int64_t, std::int64_t, const T*,    \
                                    bool, T*, cudaStream_t);                                      \
  template void global_avg_pool2d_forward(std::int64_t, std::int64_t, std::int64_t, const T*, T*, \
                                          cudaStream_t);                                          \
  template void global_avg_pool2d_backward(std::int64_t, std::int64_t, std::int64_t, const T*,    \
                                           bool, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
