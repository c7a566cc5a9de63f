// Kingma and Ba, "Adam: a method for stochastic optimization", 2015; Loshchilov and Hutter,
// "Decoupled weight decay regularization", 2019; eps where PyTorch has it.
#include "kernels/adam.h"

#include "simd/math.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void update(const AdamSettings<T>& settings, std::int64_t size, T* p, const T* g, T* m, T* v) {
  const AdamSettings<T> s = settings;  // so that no store can seem to change it
  for (std::int64_t i = 0; i < size; ++i) {
    const T gradient = g[i] + s.weight_decay * p[i];
    const T first = s.beta1 * m[i] + s.one_minus_beta1 * gradient;
    const T second = s.beta2 * v[i] + s.one_minus_beta2 * (gradient * gradient);
    m[i] = first;
    v[i] = second;
    p[i] = s.shrink * p[i] - s.step_size * first / (square_root(second) * s.second_scale + s.eps);
  }
}

}  // namespace

void get(AdamKernels<float>& k) { k = {update<float>}; }
void get(AdamKernels<double>& k) { k = {update<double>}; }

}  // namespace pynn::PYNN_ISA
