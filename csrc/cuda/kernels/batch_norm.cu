// The formulas are those of csrc/kernels/batch_norm.cpp: with x' = (x - mean) / sqrt(var + eps) and
// m = inner, dbias = sum dy, dweight = sum dy x', and in training
//   dx = weight / sqrt(var + eps) * (dy - dbias / m - x' dweight / m).
#include "cuda/kernels/batch_norm.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {
namespace {

// A block has a channel, whose values are contiguous.
constexpr int kThreads = 512;

// What turns x into y: y = (x - centre) * scale + shift.
template <typename T>
struct Scaling {
  T centre, scale, shift;
};

template <typename T>
__device__ __forceinline__ Scaling<T> scaling(int c, T mean, T var, double eps, const T* weight,
                                              const T* bias) {
  const double inverse = 1 / sqrt(static_cast<double>(var) + eps);
  return {mean, static_cast<T>(inverse * (weight ? static_cast<double>(weight[c]) : 1.0)),
          bias ? bias[c] : T(0)};
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    training_kernel(int inner, double eps, const T* x, const T* weight, const T* bias,
                    ActivationOf<T> activation, T* mean, T* var, T* y) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (32,)
  const int c = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const T* const x_c = x + static_cast<std::size_t>(c) * inner;
  T* const y_c = y + static_cast<std::size_t>(c) * inner;
  LongSum<T> sum;
  for (int i = thread; i < inner; i += kThreads) sum.add(x_c[i]);
  const double exact = block_sum(sum.total(), shared) / inner;
  // In two parts, so that T alone gives a difference all its bits.
  const T high = static_cast<T>(exact), low = static_cast<T>(exact - static_cast<double>(high));
  LongSum<T> squares;
  for (int i = thread; i < inner; i += kThreads) {
    const T difference = (x_c[i] - high) - low;
    squares.add(difference * difference);
  }
  const T variance = static_cast<T>(block_sum(squares.total(), shared) / inner);
  if (thread == 0) {
    mean[c] = high;
    var[c] = variance;
  }
  const Scaling<T> s = scaling(c, high, variance, eps, weight, bias);
  for (int i = thread; i < inner; i += kThreads)
    y_c[i] = activation((x_c[i] - s.centre) * s.scale + s.shift);
}

template <typename T>
struct Forward {
  Divider inner;
  double eps;
  const T *x, *mean, *var, *weight, *bias;
  ActivationOf<T> activation;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    int c;
    inner.split(i, c);
    const Scaling<T> s = scaling(c, mean[c], var[c], eps, weight, bias);
    y[i] = activation((x[i] - s.centre) * s.scale + s.shift);
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(int inner, double eps, const T* dy, const T* x, const T* mean, const T* var,
                    const T* weight, bool training, bool add_dx, T* dx, bool add_parameters,
                    T* dweight, T* dbias) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (32,)
  const int c = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const T* const x_c = x + static_cast<std::size_t>(c) * inner;
  const T* const dy_c = dy + static_cast<std::size_t>(c) * inner;
  const T centre = mean[c];
  const double inverse = 1 / sqrt(static_cast<double>(var[c]) + eps);
  double sum = 0, products = 0;
  if (dweight || dbias || (dx && training)) {
    LongSum<T> sum_of_thread, products_of_thread;
    for (int i = thread; i < inner; i += kThreads) {
      sum_of_thread.add(dy_c[i]);
      products_of_thread.add(dy_c[i] * (x_c[i] - centre));
    }
    sum = block_sum(sum_of_thread.total(), shared);
    products = block_sum(products_of_thread.total(), shared);
  }
  if (thread == 0) {
    if (dbias) store(dbias + c, static_cast<T>(sum), add_parameters);
    if (dweight) store(dweight + c, static_cast<T>(products * inverse), add_parameters);
  }
  if (!dx) return;
  T* const dx_c = dx + static_cast<std::size_t>(c) * inner;
  const T scale = static_cast<T>(inverse * (weight ? static_cast<double>(weight[c]) : 1.0));
  const T offset = training ? static_cast<T>(sum / inner) : T(0);
  const T slope = training ? static_cast<T>(products * inverse * inverse / inner) : T(0);
  for (int i = thread; i < inner; i += kThreads) {
    const T through = training ? dy_c[i] - offset - (x_c[i] - centre) * slope : dy_c[i];
    store(dx_c + i, scale * through, add_dx);
  }
}

template <typename T>
struct UpdateRunning {
  const T *mean, *var;
  T momentum, unbiased;
  T *running_mean, *running_var;
  std::int64_t* batches;
  const StepState* state;
  __device__ __forceinline__ void operator()(int c) const {
    if (state && state->failed) return;
    const T own_var = rounded_product(var[c], unbiased);
    running_mean[c] += rounded_product(momentum, mean[c] - running_mean[c]);
    running_var[c] += rounded_product(momentum, own_var - running_var[c]);
    if (c == 0 && batches) ++*batches;
  }
};

}  // namespace

template <typename T>
void batch_norm_forward_training(const BatchNormShape& s, const T* x, const T* weight,
                                 const T* bias, const Activation& activation, T* mean, T* var, T* y,
                                 cudaStream_t stream) {
  if (narrow(s.C, s.inner) == 0) return;
  launch(stream, static_cast<unsigned>(narrow(s.C)), kThreads, 32 * sizeof(double),
         training_kernel<T>, narrow(s.inner), s.eps, x, weight, bias, ActivationOf<T>(activation),
         mean, var, y);
}

template <typename T>
void batch_norm_forward(const BatchNormShape& s, const T* x, const T* mean, const T* var,
                        const T* weight, const T* bias, const Activation& activation, T* y,
                        cudaStream_t stream) {
  pointwise(narrow(s.C, s.inner),
            Forward<T>{Divider(narrow(s.inner)), s.eps, x, mean, var, weight, bias,
                       ActivationOf<T>(activation), y},
            stream);
}

template <typename T>
void batch_norm_backward(const BatchNormShape& s, const T* dy, const T* x, const T* mean,
                         const T* var, const T* weight, bool training, bool add_dx, T* dx,
                         bool add_parameters, T* dweight, T* dbias, cudaStream_t stream) {
  narrow(s.C, s.inner);
  launch(stream, static_cast<unsigned>(narrow(s.C)), kThreads, 32 * sizeof(double),
         backward_kernel<T>, narrow(s.inner), s.eps, dy, x, mean, var, weight, training, add_dx, dx,
         add_parameters, dweight, dbias);
}

template <typename T>
void batch_norm_update_running(const BatchNormShape& s, const T* mean, const T* var,
                               double momentum, T* running_mean, T* running_var,
                               std::int64_t* batches, const StepState* state, cudaStream_t stream) {
  const double count = static_cast<double>(s.inner);
  pointwise(
      narrow(s.C),
      UpdateRunning<T>{mean, var, static_cast<T>(momentum), static_cast<T>(count / (count - 1)),
                       running_mean, running_var, batches, state},
      stream);
}

#define PYNN_INSTANTIATE(T)                                                                        \
  template void batch_norm_forward_training(const BatchNormShape&, const T*, const T*, const T*,   \
                                            const Activation&, T*, T*, T*, cudaStream_t);          \
  template void batch_norm_forward(const BatchNormShape&, const T*, const T*, const T*, const T*,  \
                                   const T*, const Activation&, T*, cudaStream_t);                 \
  template void batch_norm_backward(const BatchNormShape&, const T*, const T*, const T*, const T*, \
                                    const T*, bool, bool, T*, bool, T*, T*, cudaStream_t);         \
  template void batch_norm_update_running(const BatchNormShape&, const T*, const T*, double, T*,   \
                                          T*, std::int64_t*, const StepState*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
