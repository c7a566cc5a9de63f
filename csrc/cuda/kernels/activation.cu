#include "cuda/kernels/activation.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/pointwise.h"

namespace pynn::cuda {
namespace {

template <typename T>
struct Forward {
  ActivationOf<T> activation;
  const T* x;
  T* y;
  __device__ __forceinline__ void operator()(int i) const { y[i] = activation(x[i]); }
};

template <typename T>
struct Backward {
  ActivationOf<T> activation;
  const T *dy, *at;
  bool add;
  T* dx;
  __device__ __forceinline__ void operator()(int i) const {
    store(dx + i, activation.backward(dy[i], at ? at[i] : T(0)), add);
  }
};

}  // namespace

template <typename T>
void activation_forward(const Activation& activation, std::int64_t size, const T* x, T* y,
                        cudaStream_t stream) {
  pointwise(narrow(size), Forward<T>{ActivationOf<T>(activation), x, y}, stream);
}
template <typename T>
void activation_backward(const Activation& activation, std::int64_t size, const T* dy, const T* at,
                         bool add, T* dx, cudaStream_t stream) {
  pointwise(narrow(size), Backward<T>{ActivationOf<T>(activation), dy, at, add, dx}, stream);
}

#define PYNN_INSTANTIATE(T)                                                                        \
  template void activation_forward(const Activation&, std::int64_t, const T*, T*, cudaStream_t);   \
  template void activation_backward(const Activation&, std::int64_t, const T*, const T*, bool, T*, \
                                    cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
