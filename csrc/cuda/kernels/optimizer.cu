// The rules are those of csrc/kernels/{sgd,adam,rmsprop}.cpp.
#include "cuda/kernels/optimizer.h"

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/pointwise.h"
#include "cuda/kernels/sums.h"

namespace pynn::cuda {
namespace {

constexpr int kThreads = 256;
static_assert(kUpdatePiece % kThreads == 0);
constexpr int kEach = kUpdatePiece / kThreads;

template <typename T>
__device__ __forceinline__ T gradient_of(const ParameterUpdate<T>& parameter, std::int64_t i,
                                         double clip_value) {
  T g = parameter.g[i];
  for (std::int32_t shard = 1; shard < parameter.shards; ++shard)
    g += parameter.g[shard * parameter.shard_stride + i];
  if (clip_value > 0) {
    const T limit = static_cast<T>(clip_value);
    g = g > limit ? limit : g < -limit ? -limit : g;
  }
  return g;
}

template <typename T>
__device__ __forceinline__ void apply(const SgdSettings<T>& s, const ParameterUpdate<T>& parameter,
                                      std::int64_t i, T g) {
  T* const p = parameter.p + i;
  if (!parameter.state[0]) {
    *p -= s.lr * (g + s.weight_decay * *p);
    return;
  }
  const T gradient = s.gradient_factor * (g + s.weight_decay * *p);
  const T v = s.momentum * parameter.state[0][i] + gradient;
  parameter.state[0][i] = v;
  *p -= s.lr * (s.nesterov ? gradient + s.momentum * v : v);
}

template <typename T>
__device__ __forceinline__ void apply(const AdamSettings<T>& s, const ParameterUpdate<T>& parameter,
                                      std::int64_t i, T g) {
  T &p = parameter.p[i], &m = parameter.state[0][i], &v = parameter.state[1][i];
  const T gradient = g + s.weight_decay * p;
  const T first = s.beta1 * m + s.one_minus_beta1 * gradient;
  const T second = s.beta2 * v + s.one_minus_beta2 * (gradient * gradient);
  m = first;
  v = second;
  p = s.shrink * p - s.step_size * first / (square_root(second) * s.second_scale + s.eps);
}

template <typename T>
__device__ __forceinline__ void apply(const RmspropSettings<T>& s,
                                      const ParameterUpdate<T>& parameter, std::int64_t i, T g) {
  T &p = parameter.p[i], &square = parameter.state[0][i];
  const T gradient = g + s.weight_decay * p;
  const T mean_square = s.alpha * square + s.one_minus_alpha * (gradient * gradient);
  square = mean_square;
  T direction = gradient / (square_root(mean_square) + s.eps);
  if (parameter.state[1]) {
    T& velocity = parameter.state[1][i];
    direction += s.momentum * velocity;
    velocity = direction;
  }
  p -= s.lr * direction;
}

template <typename T, typename Settings>
__global__ void __launch_bounds__(kThreads)
    update_kernel(UpdateTable<T> table, const Settings* settings, StepState* state) {
  begin_kernel();
  if (state && state->failed) return;
  const UpdatePiece piece = table.pieces[blockIdx.x];
  const ParameterUpdate<T> parameter = table.parameters[piece.parameter];
  const std::int64_t index = state ? state->index : 0;
  const Settings s = settings[index * table.groups + parameter.group];
  T scale = T(1);
  if (table.norm && *table.norm > table.clip_norm)
    scale = static_cast<T>(table.clip_norm / *table.norm);
  PYNN_UNROLL
  for (int j = 0; j < kEach; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i >= piece.count) break;
    const T g = gradient_of(parameter, piece.first + i, table.clip_value);
    apply(s, parameter, piece.first + i, g * scale);
  }
  if (!table.advances || !last_block(&state->finished, shared_memory<unsigned>())) return;
  if (threadIdx.x != 0) return;
  ++state->step;
  ++state->index;
}

struct NormWorkspace {
  unsigned finished;
  double partial[1];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(UpdateTable<T> table, double* norm, StepState* state, NormWorkspace* workspace) {
  begin_kernel();
  double* const shared = shared_memory<double>();  // (33,)
  volatile double* const partial = workspace->partial;
  const UpdatePiece piece = table.pieces[blockIdx.x];
  const ParameterUpdate<T> parameter = table.parameters[piece.parameter];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < piece.count; i += kThreads) {
    const double g = static_cast<double>(gradient_of(parameter, piece.first + i, table.clip_value));
    sum += g * g;
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  if (!last_block(&workspace->finished, reinterpret_cast<unsigned*>(shared + 32))) return;
  double total = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads) total += partial[i];
  total = sqrt(block_sum(total, shared));
  if (threadIdx.x != 0) return;
  *norm = total;
  if (state && !is_finite(total)) state->failed = 1;
}

template <typename T>
struct Combine {
  int shards;
  std::int64_t stride;
  const T* parts;
  bool add;
  T* g;
  __device__ __forceinline__ void operator()(int i) const {
    T sum = parts[i];
    for (int shard = 1; shard < shards; ++shard) sum += parts[shard * stride + i];
    store(g + i, sum, add);
  }
};

}  // namespace

template <typename T>
std::int64_t update_pieces(const ParameterUpdate<T>* parameters, std::int64_t count,
                           UpdatePiece* pieces) {
  std::int64_t number = 0;
  for (std::int64_t parameter = 0; parameter < count; ++parameter)
    for (std::int64_t first = 0; first < parameters[parameter].size; first += kUpdatePiece) {
      const std::int64_t rest = parameters[parameter].size - first;
      if (pieces)
        pieces[number] = {narrow(parameter), narrow(rest < kUpdatePiece ? rest : kUpdatePiece),
                          first};
      ++number;
    }
  return number;
}

template <typename T, typename Settings>
void update(const UpdateTable<T>& table, const Settings* settings, StepState* state,
            cudaStream_t stream) {
  launch(stream, static_cast<unsigned>(narrow(table.piece_count)), kThreads, sizeof(unsigned),
         update_kernel<T, Settings>, table, settings, state);
}

std::int64_t gradient_norm_workspace(std::int64_t piece_count) {
  return static_cast<std::int64_t>(sizeof(NormWorkspace)) +
         piece_count * static_cast<std::int64_t>(sizeof(double));
}

template <typename T>
void gradient_norm(const UpdateTable<T>& table, double* norm, StepState* state, void* workspace,
                   cudaStream_t stream) {
  launch(stream, static_cast<unsigned>(narrow(table.piece_count)), kThreads, 33 * sizeof(double),
         norm_kernel<T>, table, norm, state, static_cast<NormWorkspace*>(workspace));
}

template <typename T>
void combine(std::int64_t shards, std::int64_t stride, std::int64_t size, const T* parts, bool add,
             T* g, cudaStream_t stream) {
  pointwise(narrow(size), Combine<T>{narrow(shards), stride, parts, add, g}, stream);
}

#define PYNN_INSTANTIATE(T)                                                                      \
  template std::int64_t update_pieces(const ParameterUpdate<T>*, std::int64_t, UpdatePiece*);    \
  template void update(const UpdateTable<T>&, const SgdSettings<T>*, StepState*, cudaStream_t);  \
  template void update(const UpdateTable<T>&, const AdamSettings<T>*, StepState*, cudaStream_t); \
  template void update(const UpdateTable<T>&, const RmspropSettings<T>*, StepState*,             \
                       cudaStream_t);                                                            \
  template void gradient_norm(const UpdateTable<T>&, double*, StepState*, void*, cudaStream_t);  \
  template void combine(std::int64_t, std::int64_t, std::int64_t, const T*, bool, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
