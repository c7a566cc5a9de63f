// With d = x - max(x), lse = log(sum_j exp(d_j)) and p = exp(d) / sum: -log p_j = lse - d_j. Where
// t_j is what the target gives class j (after smoothing, times its weight) and A = sum_j t_j,
//   loss = A lse - sum_j t_j d_j,   d loss / d x_k = A p_k - t_k,
// as on the processor (csrc/kernels/cross_entropy.cpp).
#include "cuda/kernels/cross_entropy.h"

#include "cuda/kernels/launch.h"
#include "cuda/kernels/lines.h"
#include "cuda/kernels/loss_sum.h"

namespace pynn::cuda {
namespace {

static_assert(kLossThreads == kLineThreads);

template <typename T, typename Label>
__device__ __forceinline__ bool ignored(const CrossEntropy<T, Label>& task, std::int64_t label) {
  return task.ignores && label == task.ignored_label;
}

// The weight of all labels that count, where the values decide it.
template <typename T, typename Label>
__global__ void __launch_bounds__(kLossThreads)
    normaliser_kernel(CrossEntropy<T, Label> task, LossWorkspace* workspace) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (32,)
  double sum = 0;
  for (std::int64_t p = threadIdx.x; p < task.positions; p += kLossThreads) {
    const auto label = static_cast<std::int64_t>(task.labels[p]);
    if (ignored(task, label) || label < 0 || label >= task.C) continue;
    sum += task.weight ? static_cast<double>(task.weight[label]) : 1.0;
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) workspace->normaliser = sum;
}

template <typename T, typename Label>
__global__ void __launch_bounds__(kLossThreads)
    cross_entropy_kernel(CrossEntropy<T, Label> task, Lines lines, double normaliser,
                         LossResult result) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (kLineThreads,)
  if (normaliser < 0) normaliser = static_cast<const LossWorkspace*>(result.workspace)->normaliser;
  const double factor = normaliser == 0 ? 0 : 1 / normaliser;
  const T gradient_scale = static_cast<T>(factor);
  const T smoothing = static_cast<T>(task.smoothing);
  const T uniform = smoothing / static_cast<T>(task.C), sharp = T(1) - smoothing;

  const int line = lines.line(), step = lines.slices() * lines.inner;
  const bool valid = line < lines.count;
  const int first = valid ? lines.first(line) + lines.slice() * lines.inner : 0;
  const int end = valid ? lines.axis : 0;
  const T* const logits = task.logits + first;
  const auto each = [&](const auto& function) {
    int i = 0;
    for (int j = lines.slice(); j < end; j += lines.slices(), i += step) function(j, i);
  };
  const auto weight = [&](int j) { return task.weight ? task.weight[j] : T(1); };

  T largest = minus_infinity<T>();
  each([&](int, int i) { largest = logits[i] > largest ? logits[i] : largest; });
  largest = lines.largest(largest, reinterpret_cast<T*>(shared));

  const auto label = valid && task.labels ? static_cast<std::int64_t>(task.labels[line]) : -1;
  const bool counts = valid && !(task.labels && ignored(task, label));
  // What the target gives class j besides the label itself.
  const auto spread = [&](int j, int i) {
    if (task.probabilities) return (task.probabilities[first + i] * sharp + uniform) * weight(j);
    return uniform * weight(j);
  };
  const bool spreads = task.probabilities || smoothing > T(0);
  LongSum<T> partial_sum, partial_mass, partial_product;
  each([&](int j, int i) {
    const T d = logits[i] - largest;
    partial_sum.add(exponential(d));
    if (spreads) {
      const T t = spread(j, i);
      partial_mass.add(t);
      partial_product.add(t * d);
    }
  });
  const T sum = static_cast<T>(lines.sum(partial_sum.total(), shared));
  T mass = 0, product = 0, label_mass = 0;
  if (spreads) {
    mass = static_cast<T>(lines.sum(partial_mass.total(), shared));
    product = static_cast<T>(lines.sum(partial_product.total(), shared));
  }
  if (counts && task.labels) {
    if (label >= 0 && label < task.C) {
      label_mass = weight(static_cast<int>(label)) * sharp;
      mass += label_mass;
      product += label_mass *
                 (task.logits[lines.first(line) + static_cast<int>(label) * lines.inner] - largest);
    } else {
      mass = static_cast<T>(NAN);
    }
  }
  const T loss = counts ? mass * natural_log(sum) - product : T(0);
  const bool writes = valid && lines.slice() == 0;
  if (writes && task.position_losses) task.position_losses[line] = loss;

  if (task.gradient) {
    __syncthreads();  // the logits of a label have been read, should they lie in the same memory
    T* const gradient = task.gradient + first;
    const T scale = gradient_scale * mass / sum;
    each([&](int j, int i) {
      T g = exponential(logits[i] - largest) * scale;
      if (spreads) g -= gradient_scale * spread(j, i);
      if (j == label) g -= gradient_scale * label_mass;
      gradient[i] = counts && factor != 0 ? g : T(0);
    });
  }
  finish_loss(writes ? static_cast<double>(loss) : 0.0, factor, result, shared);
}

}  // namespace

std::int64_t loss_workspace(std::int64_t positions) {
  const std::int64_t blocks = positions / 32 + 33;
  return static_cast<std::int64_t>(sizeof(LossWorkspace)) +
         blocks * static_cast<std::int64_t>(sizeof(double));
}

template <typename T, typename Label>
void cross_entropy(const CrossEntropy<T, Label>& task, const LossResult& result,
                   cudaStream_t stream) {
  const Lines lines(1, task.C, task.positions);
  double normaliser = task.mean ? static_cast<double>(task.positions) : 1.0;
  if (task.mean && task.labels && (task.ignores || task.weight)) {
    launch(stream, 1, kLossThreads, 32 * sizeof(double), normaliser_kernel<T, Label>, task,
           static_cast<LossWorkspace*>(result.workspace));
    normaliser = -1;
  }
  const unsigned blocks = lines.blocks();  // an empty batch has a loss too
  launch(stream, blocks ? blocks : 1, kLineThreads, kLineThreads * sizeof(double),
         cross_entropy_kernel<T, Label>, task, lines, normaliser, result);
}

template void cross_entropy(const CrossEntropy<float, std::int64_t>&, const LossResult&,
                            cudaStream_t);
template void cross_entropy(const CrossEntropy<float, std::int32_t>&, const LossResult&,
                            cudaStream_t);
template void cross_entropy(const CrossEntropy<double, std::int64_t>&, const LossResult&,
                            cudaStream_t);
template void cross_entropy(const CrossEntropy<double, std::int32_t>&, const LossResult&,
                            cudaStream_t);

}  // namespace pynn::cuda
