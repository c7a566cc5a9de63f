#include "cuda/kernels/layout.h"

#include "cuda/kernels/index.h"
#include "cuda/kernels/tiles.h"

namespace pynn::cuda {
namespace {

template <typename T, typename U>
struct Transposed {
  const T* x;
  int columns;
  __device__ __forceinline__ void row(int) const {}
  __device__ __forceinline__ U operator()(int row, int column) const {
    return static_cast<U>(x[static_cast<std::size_t>(row) * columns + column]);
  }
};

}  // namespace

template <typename T, typename U>
void transpose(std::int64_t rows, std::int64_t columns, const T* x, U* y, cudaStream_t stream) {
  narrow(rows, columns);
  transpose_tiles(narrow(rows), narrow(columns), Transposed<T, U>{x, narrow(columns)}, y, stream);
}

template void transpose(std::int64_t, std::int64_t, const float*, float*, cudaStream_t);
template void transpose(std::int64_t, std::int64_t, const float*, double*, cudaStream_t);
template void transpose(std::int64_t, std::int64_t, const double*, float*, cudaStream_t);
template void transpose(std::int64_t, std::int64_t, const double*, double*, cudaStream_t);

}  // namespace pynn::cuda
