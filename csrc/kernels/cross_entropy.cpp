// With d = x - max(x), lse = log(sum_j exp(d_j)) and p = exp(d) / sum: -log p_j = lse - d_j. Where
// t_j is what the target gives class j (after smoothing, times its weight) and A = sum_j t_j,
//   loss = A lse - sum_j t_j d_j,   d loss / d x_k = A p_k - t_k.
// (PyTorch's cross_entropy_loss: for labels the weight of the true class multiplies its term, and
// smoothing spreads over all classes with each one's own weight; for probabilities smoothing comes
// first and then the weights.)
#include "kernels/cross_entropy.h"

#include "simd/math.h"
#include "simd/reduce.h"

namespace pynn::PYNN_ISA {
namespace {

static_assert(kLanes == CrossEntropyTask<float>::kLanes, "a bundle has one position for each lane");
constexpr std::int64_t kTile = 16;  // classes transposed at a time
constexpr int kMany = CrossEntropyTask<float>::kMany;
constexpr std::int64_t kPartial =
    64;  // exponentials added before they join the sum: it stays accurate for many classes

// Where the first classes of a bundle's positions are.
template <int L>
struct Places {
  std::int64_t base[L];
  int count;      // positions; the lanes left over repeat the last one and are dropped
  bool adjacent;  // all the lanes, one after the other
};

// tile (C, L) = the classes of those positions.
template <typename T, int L>
void gather(std::int64_t C, std::int64_t inner, const Places<L>& places, const T* x, T* tile) {
  const std::int64_t* base = places.base;
  if (inner != 1) {
    for (std::int64_t j = 0; j < C; ++j)
      if (places.adjacent)
        for (int lane = 0; lane < L; ++lane) tile[j * L + lane] = x[base[0] + lane + j * inner];
      else
        for (int lane = 0; lane < L; ++lane) tile[j * L + lane] = x[base[lane] + j * inner];
    return;
  }
  for (std::int64_t first = 0; first < C; first += kTile) {
    const std::int64_t last = first + kTile < C ? first + kTile : C;
    for (int lane = 0; lane < L; ++lane)
      for (std::int64_t j = first; j < last; ++j) tile[j * L + lane] = x[base[lane] + j];
  }
}

// The inverse.
template <typename T, int L>
void scatter(std::int64_t C, std::int64_t inner, const Places<L>& places, const T* tile, T* x) {
  const std::int64_t* base = places.base;
  const int count = places.count;
  if (inner != 1) {
    for (std::int64_t j = 0; j < C; ++j)
      if (places.adjacent)
        for (int lane = 0; lane < L; ++lane) x[base[0] + lane + j * inner] = tile[j * L + lane];
      else
        for (int lane = 0; lane < count; ++lane) x[base[lane] + j * inner] = tile[j * L + lane];
    return;
  }
  for (std::int64_t first = 0; first < C; first += kTile) {
    const std::int64_t last = first + kTile < C ? first + kTile : C;
    for (int lane = 0; lane < count; ++lane)
      for (std::int64_t j = first; j < last; ++j) x[base[lane] + j] = tile[j * L + lane];
  }
}

// The positions first, first + 1, ... and their labels: L lanes, of which `count` are there; the
// others repeat the first one and are dropped. The logits of class j are x[j * x_step] and those
// beside it, their gradient likewise in g, which may be null, or x.
template <typename T, int L>
void lines(const CrossEntropyTask<T>& task, std::int64_t first, int count, const T* x,
           std::int64_t x_step, T* g, std::int64_t g_step) {
  const std::int64_t C = task.C;
  const T uniform = task.smoothing / static_cast<T>(C), sharp = T(1) - task.smoothing;
  std::int64_t label[L];  // 0 where it is ignored
  T own_mass[L], largest[L], own[L];
  bool any_ignored = false;
  for (int lane = 0; lane < L; ++lane) {
    const std::int64_t value = task.labels[first + (lane < count ? lane : 0)];
    const bool ignored = value == task.ignored_label;
    label[lane] = ignored ? 0 : value;
    own_mass[lane] = ignored ? T(0) : task.weight ? task.weight[value] * sharp : sharp;
    own[lane] = x[label[lane] * x_step + lane];
    any_ignored = any_ignored || ignored;
  }
  for (int lane = 0; lane < L; ++lane) largest[lane] = x[lane];
  for (std::int64_t j = 1; j < C; ++j) {
    const T* const x_j = x + j * x_step;
#pragma GCC unroll 1  // unrolled, it would not become vector code
    for (int lane = 0; lane < L; ++lane)
      largest[lane] = x_j[lane] > largest[lane] ? x_j[lane] : largest[lane];
  }

  // mass: A; product: sum_j t_j d_j.
  T mass[L] = {}, product[L] = {};
  for (std::int64_t j = 0; j < C && task.smoothing > T(0); ++j) {
    const T t = task.weight ? task.weight[j] * uniform : uniform;
#pragma GCC unroll 1
    for (int lane = 0; lane < L; ++lane) {
      mass[lane] += t;
      product[lane] += t * (x[j * x_step + lane] - largest[lane]);
    }
  }
  for (int lane = 0; lane < L; ++lane) {
    mass[lane] += own_mass[lane];
    product[lane] += own_mass[lane] * (own[lane] - largest[lane]);
  }

  T sum[L] = {};
  for (std::int64_t begin = 0; begin < C; begin += kPartial) {
    const std::int64_t end = begin + kPartial < C ? begin + kPartial : C;
    T partial[L] = {};
    for (std::int64_t j = begin; j < end; ++j) {
      T e[L];
      for (int lane = 0; lane < L; ++lane) {
        e[lane] = exponential_of_nonpositive(x[j * x_step + lane] - largest[lane]);
        partial[lane] += e[lane];
      }
      for (int lane = 0; lane < L && g; ++lane) g[j * g_step + lane] = e[lane];
    }
    for (int lane = 0; lane < L; ++lane) sum[lane] += partial[lane];
  }
  T loss[L];
  for (int lane = 0; lane < L; ++lane)
    loss[lane] = mass[lane] * natural_log(sum[lane]) - product[lane];
  for (int lane = 0; lane < count; ++lane) task.loss[first + lane] = loss[lane];
  for (int lane = 0; lane < count && any_ignored; ++lane)
    if (task.labels[first + lane] == task.ignored_label) task.loss[first + lane] = T(0);
  if (!g) return;

  T scale[L];
  for (int lane = 0; lane < L; ++lane) {
    scale[lane] = task.gradient_scale * mass[lane] / sum[lane];
    own_mass[lane] *= task.gradient_scale;
  }
  for (std::int64_t j = 0; j < C; ++j) {
    T* const g_j = g + j * g_step;
    const T spread = task.gradient_scale * uniform * (task.weight ? task.weight[j] : T(1));
    for (int lane = 0; lane < L; ++lane) g_j[lane] = g_j[lane] * scale[lane] - spread;
  }
  for (int lane = 0; lane < L; ++lane) g[label[lane] * g_step + lane] -= own_mass[lane];
  for (int lane = 0; lane < count && any_ignored; ++lane)
    if (task.labels[first + lane] == task.ignored_label)
      for (std::int64_t j = 0; j < C; ++j) g[j * g_step + lane] = T(0);
}

// tile (C, kLanes): the logits of positions first ... first + count, at most kLanes of them, become
// their gradient; their probabilities lie behind. The lanes left over are dropped.
template <typename T>
void to_gradient(const CrossEntropyTask<T>& task, std::int64_t first, int count, T* tile) {
  const std::int64_t C = task.C;
  const T uniform = task.smoothing / static_cast<T>(C), sharp = T(1) - task.smoothing;
  T largest[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) largest[lane] = tile[lane];
  for (std::int64_t j = 1; j < C; ++j)
#pragma GCC unroll 1
    for (int lane = 0; lane < kLanes; ++lane) {
      const T value = tile[j * kLanes + lane];
      largest[lane] = value > largest[lane] ? value : largest[lane];
    }
  for (std::int64_t j = 0; j < C; ++j)
    for (int lane = 0; lane < kLanes; ++lane) tile[j * kLanes + lane] -= largest[lane];

  T mass[kLanes] = {}, product[kLanes] = {};
  T* target = tile + C * kLanes;  // (C, kLanes)
  for (std::int64_t j = 0; j < C; ++j) {
    const T weight = task.weight ? task.weight[j] : T(1);
#pragma GCC unroll 1
    for (int lane = 0; lane < kLanes; ++lane) {
      T& t = target[j * kLanes + lane];
      t = (t * sharp + uniform) * weight;
      mass[lane] += t;
      product[lane] += t * tile[j * kLanes + lane];
    }
  }

  T sum[kLanes] = {};
  for (std::int64_t begin = 0; begin < C; begin += kPartial) {
    const std::int64_t end = begin + kPartial < C ? begin + kPartial : C;
    T partial[kLanes] = {};
    for (std::int64_t j = begin; j < end; ++j)
      for (int lane = 0; lane < kLanes; ++lane) {
        const T e = exponential_of_nonpositive(tile[j * kLanes + lane]);
        tile[j * kLanes + lane] = e;
        partial[lane] += e;
      }
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += partial[lane];
  }
  for (int lane = 0; lane < count; ++lane)
    task.loss[first + lane] = mass[lane] * natural_log(sum[lane]) - product[lane];
  if (!task.gradient) return;

  T scale[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    scale[lane] = task.gradient_scale * mass[lane] / sum[lane];
  for (std::int64_t j = 0; j < C; ++j) {
    T* g = tile + j * kLanes;
    for (int lane = 0; lane < kLanes; ++lane)
      g[lane] = g[lane] * scale[lane] - task.gradient_scale * target[j * kLanes + lane];
  }
}

// The positions first ... first + count, at most L of them; the lanes left over repeat the
// last one and are dropped.
template <typename T, int L>
void bundle(const CrossEntropyTask<T>& task, std::int64_t first, int count, T* tile) {
  const std::int64_t C = task.C;
  Places<L> places{{}, count, false};
  std::int64_t n = first / task.inner, i = first % task.inner;
  for (int lane = 0; lane < L; ++lane) {
    places.base[lane] = n * C * task.inner + i;
    if (lane + 1 >= count) continue;
    if (++i == task.inner) {
      i = 0;
      ++n;
    }
  }
  places.adjacent = count == L && places.base[L - 1] - places.base[0] == L - 1;

  gather(C, task.inner, places, task.logits, tile);
  if (L == kLanes && task.probabilities) {
    gather(C, task.inner, places, task.probabilities, tile + C * L);
    to_gradient(task, first, count, tile);
  } else {
    lines<T, L>(task, first, count, tile, L, task.gradient ? tile : nullptr, L);
  }
  if (task.gradient) scatter(C, task.inner, places, tile, task.gradient);
}

// Labels of positions that lie side by side, of one sample.
template <typename T, int L>
void adjacent(const CrossEntropyTask<T>& task, std::int64_t first) {
  const std::int64_t at = first / task.inner * task.C * task.inner + first % task.inner;
  lines<T, L>(task, first, L, task.logits + at, task.inner,
              task.gradient ? task.gradient + at : nullptr, task.inner);
}

// The same, where they lie in lanes already.
template <typename T>
void run_block(const CrossEntropyTask<T>& task, std::int64_t first, int count, const T* logits,
               T* gradient) {
  lines<T, kLanes>(task, first, count, logits, kLanes, gradient, kLanes);
  for (std::int64_t j = 0; j < task.C; ++j)
    for (int lane = count; lane < kLanes; ++lane) gradient[j * kLanes + lane] = T(0);
}

// One position whose classes are contiguous.
template <typename T>
void row(const CrossEntropyTask<T>& task, std::int64_t position) {
  const std::int64_t C = task.C, label = task.labels ? task.labels[position] : -1;
  const T uniform = task.smoothing / static_cast<T>(C), sharp = T(1) - task.smoothing;
  const T *x = task.logits + position * C, *weight = task.weight;
  const T* probabilities = task.probabilities ? task.probabilities + position * C : nullptr;
  T* gradient = task.gradient ? task.gradient + position * C : nullptr;
  if (task.labels && label == task.ignored_label) {
    task.loss[position] = T(0);
    for (std::int64_t j = 0; gradient && j < C; ++j) gradient[j] = T(0);
    return;
  }
  const T largest = maximum(C, x);
  const auto target = [=](std::int64_t j) {
    return ((probabilities ? probabilities[j] * sharp : T(0)) + uniform) *
           (weight ? weight[j] : T(1));
  };
  T mass = 0, product = 0;
  if (probabilities || task.smoothing > T(0)) {
    mass = sum<T>(C, target);
    product = sum<T>(C, [=](std::int64_t j) { return target(j) * (x[j] - largest); });
  }
  const T label_mass = probabilities ? T(0) : weight ? weight[label] * sharp : sharp;
  if (!probabilities) {
    mass += label_mass;
    product += label_mass * (x[label] - largest);
  }
  const auto e = [=](std::int64_t j) { return exponential_of_nonpositive(x[j] - largest); };
  const T total =
      gradient ? sum<T>(C, [=](std::int64_t j) { return gradient[j] = e(j); }) : sum<T>(C, e);
  task.loss[position] = mass * natural_log(total) - product;
  if (!gradient) return;
  const T gradient_scale = task.gradient_scale, scale = gradient_scale * mass / total;
  if (probabilities || task.smoothing > T(0))
    for (std::int64_t j = 0; j < C; ++j)
      gradient[j] = gradient[j] * scale - gradient_scale * target(j);
  else
    for (std::int64_t j = 0; j < C; ++j) gradient[j] *= scale;
  if (!probabilities) gradient[label] -= gradient_scale * label_mass;
}

template <typename T>
void run(const CrossEntropyTask<T>& task, std::int64_t begin, std::int64_t end, T* workspace) {
  if (task.inner == 1 && task.C >= task.kLong) {
    for (std::int64_t position = begin; position < end; ++position) row(task, position);
    return;
  }
  std::int64_t count;
  for (std::int64_t first = begin; first < end; first += count) {
    const std::int64_t left = end - first, here = task.inner - first % task.inner;
    const std::int64_t together = left < here ? left : here;
    count = left < kLanes ? left : kLanes;
    if (!task.labels) {
      bundle<T, kLanes>(task, first, static_cast<int>(count), workspace);
    } else if (together >= kMany) {
      adjacent<T, kMany>(task, first);
      count = kMany;
    } else if (together >= kLanes) {
      adjacent<T, kLanes>(task, first);
    } else if (task.inner == 1 && left > kLanes) {
      count = left < kMany ? left : kMany;
      bundle<T, kMany>(task, first, static_cast<int>(count), workspace);
    } else {
      bundle<T, kLanes>(task, first, static_cast<int>(count), workspace);
    }
  }
}

}  // namespace

void get(CrossEntropyKernels<float>& k) { k = {run<float>, run_block<float>}; }
void get(CrossEntropyKernels<double>& k) { k = {run<double>, run_block<double>}; }

}  // namespace pynn::PYNN_ISA
