// Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012; eps and momentum where PyTorch has them.
#include "kernels/rmsprop.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void update(const RmspropSettings<T>& settings, std::int64_t size, T* p, const T* g, T* square,
            T* velocity) {
  const RmspropSettings<T> s = settings;  // so that no store can seem to change it
  for (std::int64_t i = 0; i < size; ++i) {
    const T gradient = g[i] + s.weight_decay * p[i];
    const T mean_square = s.alpha * square[i] + s.one_minus_alpha * (gradient * gradient);
    square[i] = mean_square;
    T direction = gradient / (square_root(mean_square) + s.eps);
    if (velocity) {
      direction += s.momentum * velocity[i];
      velocity[i] = direction;
    }
    p[i] -= s.lr * direction;
  }
}

}  // namespace

void get(RmspropKernels<float>& k) { k = {update<float>}; }
void get(RmspropKernels<double>& k) { k = {update<double>}; }

}  // namespace pynn::PYNN_ISA
