#include "cuda/kernels/mse_loss.h"

#include "cuda/kernels/index.h"
#include "cuda/kernels/launch.h"
#include "cuda/kernels/loss_sum.h"

namespace pynn::cuda {
namespace {

constexpr int kEach = 4;

template <typename T>
__global__ void __launch_bounds__(kLossThreads)
    mse_kernel(int size, double factor, const T* prediction, const T* target, T* gradient,
               T* element_losses, LossResult result) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (33,)
  const T scale = static_cast<T>(2 * factor);
  LongSum<T> sum;
  const int first =
      static_cast<int>(blockIdx.x) * kLossThreads * kEach + static_cast<int>(threadIdx.x);
  for (int j = 0; j < kEach; ++j) {
    const int i = first + j * kLossThreads;
    if (i < 0 || i >= size) break;
    const T difference = prediction[i] - target[i], square = difference * difference;
    if (gradient) gradient[i] = scale * difference;
    if (element_losses) element_losses[i] = square;
    sum.add(square);
  }
  finish_loss(sum.total(), factor, result, shared);
}

}  // namespace

template <typename T>
void mse_loss(std::int64_t size, bool mean, const T* prediction, const T* target, T* gradient,
              T* element_losses, const LossResult& result, cudaStream_t stream) {
  const double factor = !mean ? 1 : size == 0 ? 0 : 1 / static_cast<double>(size);
  const unsigned blocks = blocks_of(size, kLossThreads * kEach);
  launch(stream, blocks ? blocks : 1, kLossThreads, 33 * sizeof(double), mse_kernel<T>,
         narrow(size), factor, prediction, target, gradient, element_losses, result);
}

template void mse_loss(std::int64_t, bool, const float*, const float*, float*, float*,
                       const LossResult&, cudaStream_t);
template void mse_loss(std::int64_t, bool, const double*, const double*, double*, double*,
                       const LossResult&, cudaStream_t);

}  // namespace pynn::cuda
