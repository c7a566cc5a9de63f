#include "cuda/kernels/gather.h"

#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/tiles.h"

namespace pynn::cuda {
namespace {

struct Samples {
  int N;
  const std::int64_t* order;
  const StepState* state;
  __device__ __forceinline__ std::int64_t operator()(int n) const {
    const std::int64_t place = (state ? std::int64_t{state->index} : 0) * N + n;
    return order ? order[place] : place;
  }
};

template <typename Value, typename T>
struct Rows {
  Samples samples;
  int features;
  const Value* data;
  T scale, shift;
  const std::int64_t* labels;  // null: none
  std::int64_t* y;
  __device__ __forceinline__ void row(int n) const {
    if (labels) y[n] = labels[samples(n)];
  }
  __device__ __forceinline__ T operator()(int n, int feature) const {
    return static_cast<T>(data[samples(n) * features + feature]) * scale + shift;
  }
};

template <typename Label>
struct Labels {
  Samples samples;
  int each;
  Divider N;
  const Label* data;
  std::int64_t* y;
  __device__ __forceinline__ void operator()(int i) const {
    int place;
    const int n = N.split(i, place);
    y[i] = static_cast<std::int64_t>(data[samples(n) * each + place]);
  }
};

}  // namespace

template <typename Value, typename T>
void gather(std::int64_t features, std::int64_t N, const Value* data, const std::int64_t* order,
            const StepState* state, double scale, double shift, T* x, cudaStream_t stream) {
  gather_batch<Value, T>(features, N, data, nullptr, order, state, scale, shift, x, nullptr,
                         stream);
}

template <typename Value, typename T>
void gather_batch(std::int64_t features, std::int64_t N, const Value* data,
                  const std::int64_t* labels, const std::int64_t* order, const StepState* state,
                  double scale, double shift, T* x, std::int64_t* y, cudaStream_t stream) {
  narrow(features, N);
  transpose_tiles(narrow(N), narrow(features),
                  Rows<Value, T>{{narrow(N), order, state},
                                 narrow(features),
                                 data,
                                 static_cast<T>(scale),
                                 static_cast<T>(shift),
                                 labels,
                                 y},
                  x, stream);
}

template <typename Label>
void gather_labels(std::int64_t each, std::int64_t N, const Label* data, const std::int64_t* order,
                   const StepState* state, std::int64_t* y, cudaStream_t stream) {
  pointwise(narrow(each, N),
            Labels<Label>{{narrow(N), order, state}, narrow(each), Divider(narrow(N)), data, y},
            stream);
}

#define PYNN_INSTANTIATE(Value, T)                                                          \
  template void gather(std::int64_t, std::int64_t, const Value*, const std::int64_t*,       \
                       const StepState*, double, double, T*, cudaStream_t);                 \
  template void gather_batch(std::int64_t, std::int64_t, const Value*, const std::int64_t*, \
                             const std::int64_t*, const StepState*, double, double, T*,     \
                             std::int64_t*, cudaStream_t);
PYNN_INSTANTIATE(std::uint8_t, float)
PYNN_INSTANTIATE(std::uint8_t, double)
PYNN_INSTANTIATE(float, float)
PYNN_INSTANTIATE(float, double)
PYNN_INSTANTIATE(double, float)
PYNN_INSTANTIATE(double, double)
#define PYNN_INSTANTIATE_LABELS(Label)                                                       \
  template void gather_labels(std::int64_t, std::int64_t, const Label*, const std::int64_t*, \
                              const StepState*, std::int64_t*, cudaStream_t);
PYNN_INSTANTIATE_LABELS(std::uint8_t)
PYNN_INSTANTIATE_LABELS(std::int32_t)
PYNN_INSTANTIATE_LABELS(std::int64_t)

}  // namespace pynn::cuda
