#include "cuda/kernels/concat.h"

#include "cuda/kernels/pointwise.h"

namespace pynn::cuda {
namespace {

template <typename T>
struct CopyRows {
  Divider width;
  const T* x;
  std::int64_t x_stride;
  bool add;
  T* y;
  std::int64_t y_stride;
  __device__ __forceinline__ void operator()(int i) const {
    int row;
    const int column = width.split(i, row);
    store(y + row * y_stride + column, x[row * x_stride + column], add);
  }
};

}  // namespace

template <typename T>
void copy_rows(std::int64_t rows, std::int64_t width, const T* x, std::int64_t x_stride, bool add,
               T* y, std::int64_t y_stride, cudaStream_t stream) {
  pointwise(narrow(rows, width), CopyRows<T>{Divider(narrow(width)), x, x_stride, add, y, y_stride},
            stream);
}

template void copy_rows(std::int64_t, std::int64_t, const float*, std::int64_t, bool, float*,
                        std::int64_t, cudaStream_t);
template void copy_rows(std::int64_t, std::int64_t, const double*, std::int64_t, bool, double*,
                        std::int64_t, cudaStream_t);

}  // namespace pynn::cuda
