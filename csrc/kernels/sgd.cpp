#include "kernels/sgd.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void update(const SgdSettings<T>& settings, std::int64_t size, T* p, const T* g, T* velocity) {
  const SgdSettings<T> s = settings;  // so that no store can seem to change it
  if (!velocity) {
    for (std::int64_t i = 0; i < size; ++i) p[i] -= s.lr * (g[i] + s.weight_decay * p[i]);
    return;
  }
  for (std::int64_t i = 0; i < size; ++i) {
    const T gradient = s.gradient_factor * (g[i] + s.weight_decay * p[i]);
    const T v = s.momentum * velocity[i] + gradient;
    velocity[i] = v;
    p[i] -= s.lr * (s.nesterov ? gradient + s.momentum * v : v);
  }
}

}  // namespace

void get(SgdKernels<float>& k) { k = {update<float>}; }
void get(SgdKernels<double>& k) { k = {update<double>}; }

}  // namespace pynn::PYNN_ISA
