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
constexpr std::int64_t kPartial =
    64;  // exponentials added before they join the sum: it stays accurate for many classes

// Where the first classes of a bundle's positions are.
struct Places {
  std::int64_t base[kLanes];
  int count;      // positions; the lanes left over repeat the last one and are dropped
  bool adjacent;  // all the lanes, one after the other
};

// tile (C, kLanes) = the classes of those positions.
template <typename T>
void gather(std::int64_t C, std::int64_t inner, const Places& places, const T* x, T* tile) {
  const std::int64_t* base = places.base;
  if (inner != 1) {
    for (std::int64_t j = 0; j < C; ++j)
      if (places.adjacent)
        for (int lane = 0; lane < kLanes; ++lane)
          tile[j * kLanes + lane] = x[base[0] + lane + j * inner];
      else
        for (int lane = 0; lane < kLanes; ++lane)
          tile[j * kLanes + lane] = x[base[lane] + j * inner];
    return;
  }
  for (std::int64_t first = 0; first < C; first += kTile) {
    const std::int64_t last = first + kTile < C ? first + kTile : C;
    for (int lane = 0; lane < kLanes; ++lane)
      for (std::int64_t j = first; j < last; ++j) tile[j * kLanes + lane] = x[base[lane] + j];
  }
}

// The inverse.
template <typename T>
void scatter(std::int64_t C, std::int64_t inner, const Places& places, const T* tile, T* x) {
  const std::int64_t* base = places.base;
  const int count = places.count;
  if (inner != 1) {
    for (std::int64_t j = 0; j < C; ++j)
      if (places.adjacent)
        for (int lane = 0; lane < kLanes; ++lane)
          x[base[0] + lane + j * inner] = tile[j * kLanes + lane];
      else
        for (int lane = 0; lane < count; ++lane)
          x[base[lane] + j * inner] = tile[j * kLanes + lane];
    return;
  }
  for (std::int64_t first = 0; first < C; first += kTile) {
    const std::int64_t last = first + kTile < C ? first + kTile : C;
    for (int lane = 0; lane < count; ++lane)
      for (std::int64_t j = first; j < last; ++j) x[base[lane] + j] = tile[j * kLanes + lane];
  }
}

// tile (C, kLanes): the logits of positions first ... first + count, at most kLanes of them, become
// their gradient; their probabilities, if there are any, lie behind. The lanes left over are
// dropped.
template <typename T>
void to_gradient(const CrossEntropyTask<T>& task, std::int64_t first, int count,
                 const std::int64_t (&label)[kLanes], T* tile) {
  const std::int64_t C = task.C;
  const T uniform = task.smoothing / static_cast<T>(C), sharp = T(1) - task.smoothing;
  T largest[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) largest[lane] = tile[lane];
  for (std::int64_t j = 1; j < C; ++j)
    for (int lane = 0; lane < kLanes; ++lane) {
      const T value = tile[j * kLanes + lane];
      largest[lane] = value > largest[lane] ? value : largest[lane];
    }
  for (std::int64_t j = 0; j < C; ++j)
    for (int lane = 0; lane < kLanes; ++lane) tile[j * kLanes + lane] -= largest[lane];

  // mass: A; inner product: sum_j t_j d_j.
  T mass[kLanes] = {}, product[kLanes] = {};
  T* target = tile + C * kLanes;  // (C, kLanes), of probabilities only
  if (task.probabilities) {
    for (std::int64_t j = 0; j < C; ++j) {
      const T weight = task.weight ? task.weight[j] : T(1);
      for (int lane = 0; lane < kLanes; ++lane) {
        T& t = target[j * kLanes + lane];
        t = (t * sharp + uniform) * weight;
        mass[lane] += t;
        product[lane] += t * tile[j * kLanes + lane];
      }
    }
  } else {
    if (task.smoothing > T(0))
      for (std::int64_t j = 0; j < C; ++j) {
        const T t = task.weight ? task.weight[j] * uniform : uniform;
        for (int lane = 0; lane < kLanes; ++lane) {
          mass[lane] += t;
          product[lane] += t * tile[j * kLanes + lane];
        }
      }
    for (int lane = 0; lane < kLanes; ++lane) {
      if (label[lane] == task.ignored_label) continue;
      const T t = task.weight ? task.weight[label[lane]] * sharp : sharp;
      mass[lane] += t;
      product[lane] += t * tile[label[lane] * kLanes + lane];
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
  T loss[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    loss[lane] = mass[lane] * natural_log(sum[lane]) - product[lane];
  for (int lane = 0; lane < count; ++lane) {
    const bool ignored = task.labels && label[lane] == task.ignored_label;
    task.loss[first + lane] = ignored ? T(0) : loss[lane];
  }
  if (!task.gradient) return;

  T scale[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    scale[lane] = task.gradient_scale * mass[lane] / sum[lane];
  for (std::int64_t j = 0; j < C; ++j) {
    T* g = tile + j * kLanes;
    if (task.probabilities) {
      for (int lane = 0; lane < kLanes; ++lane)
        g[lane] = g[lane] * scale[lane] - task.gradient_scale * target[j * kLanes + lane];
    } else {
      const T spread = task.gradient_scale * uniform * (task.weight ? task.weight[j] : T(1));
      for (int lane = 0; lane < kLanes; ++lane) g[lane] = g[lane] * scale[lane] - spread;
    }
  }
  if (task.labels)
    for (int lane = 0; lane < count; ++lane) {
      if (label[lane] == task.ignored_label) {
        for (std::int64_t j = 0; j < C; ++j) tile[j * kLanes + lane] = T(0);
      } else {
        const T t = task.weight ? task.weight[label[lane]] * sharp : sharp;
        tile[label[lane] * kLanes + lane] -= task.gradient_scale * t;
      }
    }
}

// The positions first ... first + count, at most kLanes of them; the lanes left over repeat the
// last one and are dropped.
template <typename T>
void bundle(const CrossEntropyTask<T>& task, std::int64_t first, int count, T* tile) {
  const std::int64_t C = task.C;
  Places places{{}, count, false};
  std::int64_t label[kLanes];
  std::int64_t position = first, n = first / task.inner, i = first % task.inner;
  for (int lane = 0; lane < kLanes; ++lane) {
    places.base[lane] = n * C * task.inner + i;
    label[lane] = task.labels ? task.labels[position] : -1;
    if (lane + 1 >= count) continue;
    ++position;
    if (++i == task.inner) {
      i = 0;
      ++n;
    }
  }
  places.adjacent = count == kLanes && places.base[kLanes - 1] - places.base[0] == kLanes - 1;

  gather(C, task.inner, places, task.logits, tile);
  if (task.probabilities) gather(C, task.inner, places, task.probabilities, tile + C * kLanes);
  to_gradient(task, first, count, label, tile);
  if (task.gradient) scatter(C, task.inner, places, tile, task.gradient);
}

// The same, where they lie in lanes already.
template <typename T>
void run_block(const CrossEntropyTask<T>& task, std::int64_t first, int count, const T* logits,
               T* gradient) {
  std::int64_t label[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    label[lane] = task.labels[first + (lane < count ? lane : 0)];
  for (std::int64_t i = 0; i < task.C * kLanes; ++i) gradient[i] = logits[i];
  to_gradient(task, first, count, label, gradient);
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
  for (std::int64_t first = begin; first < end; first += kLanes)
    bundle(task, first, static_cast<int>(end - first < kLanes ? end - first : kLanes), workspace);
}

}  // namespace

void get(CrossEntropyKernels<float>& k) { k = {run<float>, run_block<float>}; }
void get(CrossEntropyKernels<double>& k) { k = {run<double>, run_block<double>}; }

}  // namespace pynn::PYNN_ISA
