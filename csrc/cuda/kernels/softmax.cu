#include "cuda/kernels/softmax.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/lines.h"
#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {
namespace {

template <typename T, bool kLog>
__global__ void __launch_bounds__(kLineThreads, 4) forward_kernel(Lines lines, const T* x, T* y) {
  begin_kernel();
  double* const buffer = shared_memory<double>();  // (kLineThreads,)
  const int line = lines.line();
  const bool valid = line < lines.count;
  const int first = valid ? lines.first(line) : 0, end = valid ? lines.axis : 0;
  T largest = minus_infinity<T>();
  for (int j = lines.slice(); j < end; j += lines.slices()) {
    const T value = x[first + j * lines.inner];
    largest = value > largest ? value : largest;
  }
  largest = lines.largest(largest, reinterpret_cast<T*>(buffer));
  LongSum<T> partial;
  for (int j = lines.slice(); j < end; j += lines.slices())
    partial.add(exponential(x[first + j * lines.inner] - largest));
  const double sum = lines.sum(partial.total(), buffer);
  const T scale = static_cast<T>(1 / sum), shift = natural_log(static_cast<T>(sum));
  for (int j = lines.slice(); j < end; j += lines.slices()) {
    const int i = first + j * lines.inner;
    const T z = x[i] - largest;
    y[i] = kLog ? z - shift : exponential(z) * scale;
  }
}

template <typename T, bool kLog>
__global__ void __launch_bounds__(kLineThreads, 4)
    backward_kernel(Lines lines, const T* dy, const T* y, bool add, T* dx) {
  begin_kernel();
  double* const buffer = shared_memory<double>();  // (kLineThreads,)
  const int line = lines.line();
  const bool valid = line < lines.count;
  const int first = valid ? lines.first(line) : 0, end = valid ? lines.axis : 0;
  LongSum<T> partial;
  for (int j = lines.slice(); j < end; j += lines.slices()) {
    const int i = first + j * lines.inner;
    partial.add(kLog ? dy[i] : dy[i] * y[i]);
  }
  const T sum = static_cast<T>(lines.sum(partial.total(), buffer));
  for (int j = lines.slice(); j < end; j += lines.slices()) {
    const int i = first + j * lines.inner;
    store(dx + i, kLog ? dy[i] - exponential(y[i]) * sum : y[i] * (dy[i] - sum), add);
  }
}

template <typename T, bool kLog>
void forward(const SoftmaxShape& s, const T* x, T* y, cudaStream_t stream) {
  const Lines lines(s.outer, s.axis, s.inner);
  launch(stream, lines.blocks(), kLineThreads, kLineThreads * sizeof(double),
         forward_kernel<T, kLog>, lines, x, y);
}
template <typename T, bool kLog>
void backward(const SoftmaxShape& s, const T* dy, const T* y, bool add, T* dx,
              cudaStream_t stream) {
  const Lines lines(s.outer, s.axis, s.inner);
  launch(stream, lines.blocks(), kLineThreads, kLineThreads * sizeof(double),
         backward_kernel<T, kLog>, lines, dy, y, add, dx);
}

}  // namespace

template <typename T>
void softmax_forward(const SoftmaxShape& s, const T* x, T* y, cudaStream_t stream) {
  forward<T, false>(s, x, y, stream);
}
template <typename T>
void softmax_backward(const SoftmaxShape& s, const T* dy, const T* y, bool add, T* dx,
                      cudaStream_t stream) {
  backward<T, false>(s, dy, y, add, dx, stream);
}
template <typename T>
void log_softmax_forward(const SoftmaxShape& s, const T* x, T* y, cudaStream_t stream) {
  forward<T, true>(s, x, y, stream);
}
template <typename T>
void log_softmax_backward(const SoftmaxShape& s, const T* dy, const T* y, bool add, T* dx,
                          cudaStream_t stream) {
  backward<T, true>(s, dy, y, add, dx, stream);
}

#define PYNN_INSTANTIATE(T)                                                                        \
  template void softmax_forward(const SoftmaxShape&, const T*, T*, cudaStream_t);                  \
  template void softmax_backward(const SoftmaxShape&, const T*, const T*, bool, T*, cudaStream_t); \
  template void log_softmax_forward(const SoftmaxShape&, const T*, T*, cudaStream_t);              \
  template void log_softmax_backward(const SoftmaxShape&, const T*, const T*, bool, T*,            \
                                     cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
