#include "cuda/kernels/bias.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {
namespace {

template <typename T>
struct Forward {
  const T *x, *b;
  T* y;
  Divider N;
  __device__ __forceinline__ void operator()(int i) const {
    int feature;
    N.split(i, feature);
    y[i] = x[i] + b[feature];
  }
};

template <typename T>
struct Activate {
  const T* b;
  ActivationOf<T> activation;
  T* y;
  Divider N;
  __device__ __forceinline__ void operator()(int i) const {
    int feature;
    N.split(i, feature);
    y[i] = activation(b ? y[i] + b[feature] : y[i]);
  }
};

// A line of `width` threads for each row: a warp, or a block of several.
template <typename T>
__global__ void __launch_bounds__(256)
    row_sums_kernel(int rows, int columns, int width, const T* x, bool add, T* sums) {
  begin_kernel();
  double* const lines = shared_memory<double>();  // (32,)
  const int thread = static_cast<int>(threadIdx.x);
  const int row =
      width == 32 ? static_cast<int>(blockIdx.x) * 8 + thread / 32 : static_cast<int>(blockIdx.x);
  LongSum<T> sum;
  if (row < rows) {
    const T* const x_r = x + static_cast<std::size_t>(row) * columns;
    for (int i = thread % width; i < columns; i += width) sum.add(x_r[i]);
  }
  const double total = width == 32 ? warp_sum(sum.total()) : block_sum(sum.total(), lines);
  if (thread % width == 0 && row < rows) store(sums + row, static_cast<T>(total), add);
}

}  // namespace

template <typename T>
void bias_forward(std::int64_t features, std::int64_t N, const T* x, const T* b, T* y,
                  cudaStream_t stream) {
  pointwise(narrow(features, N), Forward<T>{x, b, y, Divider(narrow(N))}, stream);
}

template <typename T>
void bias_activation(std::int64_t features, std::int64_t N, const T* b,
                     const Activation& activation, T* y, cudaStream_t stream) {
  if (!b && activation.kind == Activation::Kind::none) return;
  pointwise(narrow(features, N), Activate<T>{b, ActivationOf<T>(activation), y, Divider(narrow(N))},
            stream);
}

template <typename T>
void bias_backward(std::int64_t features, std::int64_t N, const T* dy, bool add, T* db,
                   cudaStream_t stream) {
  narrow(features, N);
  constexpr std::int64_t kLong = 1024;
  const int width = N > kLong ? 256 : 32;
  launch(stream, blocks_of(features, width == 32 ? 8 : 1), 256, 32 * sizeof(double),
         row_sums_kernel<T>, narrow(features), narrow(N), width, dy, add, db);
}

#define PYNN_INSTANTIATE(T)                                                                     \
  template void bias_forward(std::int64_t, std::int64_t, const T*, const T*, T*, cudaStream_t); \
  template void bias_activation(std::int64_t, std::int64_t, const T*, const Activation&, T*,    \
                                cudaStream_t);                                                  \
  template void bias_backward(std::int64_t, std::int64_t, const T*, bool, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
