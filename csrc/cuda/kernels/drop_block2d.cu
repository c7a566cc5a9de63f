#include "cuda/kernels/drop_block2d.h"

#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/random.h"

namespace pynn::cuda {
namespace {

// How the workspace is divided.
struct Mask {
  int* kept;              // (N,): elements of each sample
  std::uint8_t* corners;  // (C, H, W, N): whether a dropped block begins here
  std::uint8_t* keeps;    // (C, H, W, N)
};
Mask mask_of(const DropBlock2dShape& s, std::int64_t N, void* workspace) {
  const std::int64_t size = narrow(s.C, s.H, s.W, N);
  auto* const bytes = static_cast<std::uint8_t*>(workspace);
  const std::int64_t first = N * static_cast<std::int64_t>(sizeof(int));
  return {static_cast<int*>(workspace), bytes + first, bytes + first + size};
}

struct Corners {
  int features, H, W, block;
  Divider samples;
  std::uint64_t threshold;
  std::uint32_t node;
  const StepState* state;
  Mask mask;
  __device__ __forceinline__ void operator()(int i) const {
    int quad;
    const int sample = samples.split(i, quad);
    if (quad == 0) mask.kept[sample] = 0;
    const PhiloxBlock words = random_words(*state, node, sample, quad);
    for (int j = 0; j < 4 && 4 * quad + j < features; ++j) {
      const int feature = 4 * quad + j, h = feature / W % H, w = feature % W;
      mask.corners[feature * samples.divisor() + sample] =
          words.word[j] < threshold && h <= H - block && w <= W - block;
    }
  }
};

constexpr int kRun = 16;  // features of a thread

struct Keeps {
  int features, H, W, block;
  Divider samples;
  Mask mask;
  __device__ __forceinline__ void operator()(int i) const {
    int run;
    const int sample = samples.split(i, run), N = samples.divisor();
    int kept = 0;
    for (int feature = run * kRun; feature < (run + 1) * kRun && feature < features; ++feature) {
      const int h = feature / W % H, w = feature % W;
      bool keeps = true;
      for (int row = max(h - block + 1, 0); row <= h; ++row)
        for (int column = max(w - block + 1, 0); column <= w; ++column)
          keeps = keeps && !mask.corners[(feature + (row - h) * W + column - w) * N + sample];
      mask.keeps[feature * N + sample] = keeps;
      kept += keeps;
    }
    atomicAdd(mask.kept + sample, kept);  // integers: the same in any order
  }
};

template <typename T>
struct Drop {
  int features;
  Divider samples;
  Mask mask;
  const T* x;
  bool add;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    int feature;
    const int sample = samples.split(i, feature);
    const double kept = mask.kept[sample];
    const T scale = kept == 0 ? T(0) : static_cast<T>(features / kept);
    store(y + i, mask.keeps[i] ? x[i] * scale : T(0), add);
  }
};

}  // namespace

std::int64_t drop_block2d_workspace(const DropBlock2dShape& s, std::int64_t N) {
  return N * static_cast<std::int64_t>(sizeof(int)) + 2 * std::int64_t{narrow(s.C, s.H, s.W, N)};
}

void drop_block2d_mask(const DropBlock2dShape& s, std::int64_t N, std::uint32_t node,
                       const StepState* state, void* workspace, cudaStream_t stream) {
  const Mask mask = mask_of(s, N, workspace);
  const int features = narrow(s.C, s.H, s.W), H = narrow(s.H), W = narrow(s.W);
  const int block = narrow(s.block);
  const Divider samples(narrow(N));
  pointwise(narrow((features + 3) / 4, N),
            Corners{features, H, W, block, samples, s.threshold, node, state, mask}, stream);
  pointwise(narrow((features + kRun - 1) / kRun, N), Keeps{features, H, W, block, samples, mask},
            stream);
}

template <typename T>
void drop_block2d(const DropBlock2dShape& s, std::int64_t N, const void* workspace, const T* x,
                  bool add, T* y, cudaStream_t stream) {
  const Mask mask = mask_of(s, N, const_cast<void*>(workspace));
  pointwise(narrow(s.C, s.H, s.W, N),
            Drop<T>{narrow(s.C, s.H, s.W), Divider(narrow(N)), mask, x, add, y}, stream);
}

template void drop_block2d(const DropBlock2dShape&, std::int64_t, const void*, const float*, bool,
                           float*, cudaStream_t);
template void drop_block2d(const DropBlock2dShape&, std::int64_t, const void*, const double*, bool,
                           double*, cudaStream_t);

}  // namespace pynn::cuda
