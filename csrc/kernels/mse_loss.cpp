#include "kernels/mse_loss.h"

#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
double sum_of_squares(std::int64_t size, const T* prediction, const T* target, T gradient_scale,
                      T* gradient) {
  if (gradient)
    for (std::int64_t i = 0; i < size; ++i)
      gradient[i] = gradient_scale * (prediction[i] - target[i]);
  return sum<double>(size, [=](std::int64_t i) {
    const double difference = prediction[i] - target[i];
    return difference * difference;
  });
}

template <typename T>
void each(std::int64_t size, const T* prediction, const T* target, T* loss) {
  for (std::int64_t i = 0; i < size; ++i) {
    const T difference = prediction[i] - target[i];
    loss[i] = difference * difference;
  }
}

}  // namespace

void get(MseLossKernels<float>& k) { k = {sum_of_squares<float>, each<float>}; }
void get(MseLossKernels<double>& k) { k = {sum_of_squares<double>, each<double>}; }

}  // namespace pynn::PYNN_ISA
