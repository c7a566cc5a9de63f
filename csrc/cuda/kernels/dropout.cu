#include "cuda/kernels/dropout.h"

#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/random.h"

namespace pynn::cuda {
namespace {

// A thread has four features of a sample, whose words come together.
template <typename T>
struct Dropout {
  int features;
  Divider samples;
  std::uint32_t threshold, node;
  T scale;
  const StepState* state;
  const T* x;
  bool add;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    int quad;
    const int sample = samples.split(i, quad);
    const PhiloxBlock words = random_words(*state, node, sample, quad);
    PYNN_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int feature = 4 * quad + j;
      if (feature >= features) break;
      const int place = feature * samples.divisor() + sample;
      store(y + place, words.word[j] < threshold ? T(0) : x[place] * scale, add);
    }
  }
};

template <typename T>
struct Scaled {
  T scale;
  const T* x;
  bool add;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    store(y + i, scale == T(0) ? T(0) : x[i], add);
  }
};

}  // namespace

template <typename T>
void dropout(std::int64_t features, std::int64_t N, double p, std::uint32_t node,
             const StepState* state, const T* x, bool add, T* y, cudaStream_t stream) {
  const int size = narrow(features, N);
  if (p == 0 || p == 1) {
    pointwise(size, Scaled<T>{static_cast<T>(1 - p), x, add, y}, stream);
    return;
  }
  const double words = std::floor(p * 4294967296.0);
  const auto threshold = static_cast<std::uint32_t>(words < 4294967295.0 ? words : 4294967295.0);
  pointwise(narrow((features + 3) / 4, N),
            Dropout<T>{narrow(features), Divider(narrow(N)), threshold, node,
                       static_cast<T>(1 / (1 - p)), state, x, add, y},
            stream);
}

template void dropout(std::int64_t, std::int64_t, double, std::uint32_t, const StepState*,
                      const float*, bool, float*, cudaStream_t);
template void dropout(std::int64_t, std::int64_t, double, std::uint32_t, const StepState*,
                      const double*, bool, double*, cudaStream_t);

}  // namespace pynn::cuda
