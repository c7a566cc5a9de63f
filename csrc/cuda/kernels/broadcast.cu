#include "cuda/kernels/broadcast.h"

#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {
namespace {

// Axes as kernels walk them.
struct Walk {
  int count = 0, size = 1;  // size: of all axes together
  Divider axis[kMaxAxes];
  int a[kMaxAxes], b[kMaxAxes];

  explicit Walk(const Axes& axes) : count(axes.count) {
    for (int i = 0; i < count; ++i) {
      size = narrow(size, axes.size[i]);
      axis[i] = Divider(narrow(axes.size[i]));
      a[i] = narrow(axes.a[i]);
      b[i] = narrow(axes.b[i]);
    }
  }
  struct Place {
    int a, b;
  };
  __device__ __forceinline__ Place place(int i) const {
    Place result{0, 0};
    for (int n = count - 1; n >= 0; --n) {
      const int index = axis[n].split(i, i);
      result.a += index * a[n];
      result.b += index * b[n];
    }
    return result;
  }
};

struct Sum {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Product {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a * b;
  }
};

template <typename T, typename Operation>
struct Forward {
  Walk walk;
  const T *a, *b;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    const Walk::Place place = walk.place(i);
    y[i] = Operation()(a[place.a], b[place.b]);
  }
};

// Where both arrays lie as y does.
template <typename T, typename Operation>
struct Alike {
  const T *a, *b;
  T* y;
  __device__ __forceinline__ void operator()(int i) const { y[i] = Operation()(a[i], b[i]); }
};

template <typename T>
struct Permute {
  Walk walk;
  const T* x;
  T* y;
  __device__ __forceinline__ void operator()(int i) const { y[i] = x[walk.place(i).a]; }
};

template <typename T>
struct Reduction {
  Walk kept, summed;
  const T *dy, *b;
  bool add;
  T* da;
  __device__ __forceinline__ T term(const Walk::Place& first, int i) const {
    const Walk::Place place = summed.place(i);
    const T value = dy[first.a + place.a];
    return b ? value * b[first.b + place.b] : value;
  }
  __device__ __forceinline__ void operator()(int output) const {  // by one thread
    const Walk::Place first = kept.place(output);
    LongSum<T> sum;
    for (int i = 0; i < summed.size; ++i) sum.add(term(first, i));
    store(da + output, static_cast<T>(sum.total()), add);
  }
};

template <typename T>
__global__ void __launch_bounds__(256) reduce_kernel(Reduction<T> reduction) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (32,)
  const Walk::Place first = reduction.kept.place(static_cast<int>(blockIdx.x));
  LongSum<T> sum;
  for (int i = static_cast<int>(threadIdx.x); i < reduction.summed.size; i += 256)
    sum.add(reduction.term(first, i));
  const double total = block_sum(sum.total(), shared);
  if (threadIdx.x == 0) store(reduction.da + blockIdx.x, static_cast<T>(total), reduction.add);
}

template <typename T, typename Operation>
void forward(const BroadcastShape& s, const T* a, const T* b, T* y, cudaStream_t stream) {
  const Walk walk(s.axes);
  if (walk.count == 1 && walk.a[0] == 1 && walk.b[0] == 1)
    pointwise(walk.size, Alike<T, Operation>{a, b, y}, stream);
  else
    pointwise(walk.size, Forward<T, Operation>{walk, a, b, y}, stream);
}

}  // namespace

template <typename T>
void add_forward(const BroadcastShape& s, const T* a, const T* b, T* y, cudaStream_t stream) {
  forward<T, Sum>(s, a, b, y, stream);
}
template <typename T>
void mul_forward(const BroadcastShape& s, const T* a, const T* b, T* y, cudaStream_t stream) {
  forward<T, Product>(s, a, b, y, stream);
}

template <typename T>
void reduce(const ReductionShape& s, const T* dy, const T* b, bool add, T* da,
            cudaStream_t stream) {
  constexpr int kManyOutputs = 8192, kFewTerms = 64;
  const Reduction<T> reduction{Walk(s.kept), Walk(s.summed), dy, b, add, da};
  const int outputs = reduction.kept.size;
  if (outputs >= kManyOutputs || reduction.summed.size <= kFewTerms)
    pointwise(outputs, reduction, stream);
  else
    launch(stream, static_cast<unsigned>(outputs), 256, 32 * sizeof(double), reduce_kernel<T>,
           reduction);
}

template <typename T>
void accumulate(std::int64_t size, const T* x, T* y, cudaStream_t stream) {
  pointwise(narrow(size), Alike<T, Sum>{y, x, y}, stream);
}

template <typename T>
void permute(const Axes& axes, const T* x, T* y, cudaStream_t stream) {
  Axes one = axes;
  for (int i = 0; i < one.count; ++i) one.b[i] = 0;
  const Walk walk(one);
  pointwise(walk.size, Permute<T>{walk, x, y}, stream);
}

#define PYNN_INSTANTIATE(T)                                                                \
  template void add_forward(const BroadcastShape&, const T*, const T*, T*, cudaStream_t);  \
  template void mul_forward(const BroadcastShape&, const T*, const T*, T*, cudaStream_t);  \
  template void reduce(const ReductionShape&, const T*, const T*, bool, T*, cudaStream_t); \
  template void accumulate(std::int64_t, const T*, T*, cudaStream_t);                      \
  template void permute(const Axes&, const T*, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
