// The one kernel behind all products that run through shared memory: dense layers forward and
// backward, products of matrices, weight gradients of convolutions, and convolutions on tensor
// cores. What differs between them is where the elements of the factors lie and what becomes of a
// result.
//
// A block computes a tile of y (M, N) = a (M, K) b (K, N). Its warps are rows x columns of tiles of
// kTileM x 32, times kGroups groups: group g takes the runs of kRun terms number g, g + kGroups,
// ..., so that a product with few tiles has enough loads under way, and the groups' sums are added
// as a tree. Which tile a shape gets depends on the shape alone, and so do its bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/kernels/elementary.h"
#include "cuda/kernels/index.h"
#include "cuda/kernels/launch.h"
#include "cuda/kernels/precision.h"
#include "cuda/kernels/tensor_cores.h"

namespace pynn::cuda {

constexpr int kProductThreads = 256;

// Which of a factor's indices the lanes of a warp should run along: where memory is contiguous.
enum class Along { terms, lines };  // terms: k; lines: rows of a, columns of b

template <typename T, bool kTensorCores, int kTileM_, int kWarpsM, int kWarpsN>
struct ProductTile {
  static constexpr bool kTensor = kTensorCores;
  static constexpr int kTileM = kTileM_, kTileN = 32;
  static constexpr int kGroupWarps = kWarpsM * kWarpsN;
  static constexpr int kGroupThreads = 32 * kGroupWarps;
  static constexpr int kGroups = kProductThreads / kGroupThreads;
  static constexpr int kM = kTileM * kWarpsM, kN = kTileN * kWarpsN;
  // Terms of a run. The large tile has no registers left for more, and enough warps without.
  static constexpr int kRun = (kTileM == 64 ? 32 : 64) / static_cast<int>(sizeof(T));
  // Between terms: 16 bytes more keep rows apart for reading quads, 32 for reading fragments.
  static constexpr int kPad = kTensor ? 8 : 4;
  static constexpr int kPitchA = kM + kPad, kPitchB = kN + kPad;
  static constexpr int kStage = kRun * (kPitchA + kPitchB);  // elements of a group's factors
  static constexpr int kWarpsAcross = kWarpsN;
  static constexpr int kSums = kTileM * kTileN / 32;  // of a lane
  static constexpr int kLoadsA = kM * kRun / kGroupThreads, kLoadsB = kN * kRun / kGroupThreads;
  static constexpr int kHalf = kGroups / 2 * kGroupThreads * kSums;
  static constexpr std::size_t kSharedBytes =
      sizeof(T) * (kGroups * kStage > kHalf ? kGroups * kStage : kHalf);
  static_assert(kSharedBytes <= kMaxSharedBytes);
};

// What a lane keeps of its warp's tile, and how it multiplies.
//
// Without tensor cores: quads of rows by quads of columns. kTileM 16: lanes are 4 x 8, one quad by
// one; 32: 8 x 4, one by two; 64: 8 x 4, two by two.
template <typename T, int kTileM>
struct LaneSums {
  static constexpr int kRowQuads = kTileM == 64 ? 2 : 1, kColumnQuads = kTileM == 16 ? 1 : 2;
  static constexpr int kLanesAcross = kTileM == 16 ? 8 : 4;
  static constexpr int kWide = 4;  // neighbours that `each` gives at a time
  T sum[kRowQuads * 4][kColumnQuads * 4];

  __device__ __forceinline__ void clear() {
    PYNN_UNROLL
    for (auto& row : sum) {
      PYNN_UNROLL
      for (T& value : row) value = T(0);
    }
  }
  static __device__ __forceinline__ int row(int quad) {
    return static_cast<int>(threadIdx.x) % 32 / kLanesAcross * 4 + quad * 32;
  }
  static __device__ __forceinline__ int column(int quad) {
    return static_cast<int>(threadIdx.x) % kLanesAcross * 4 + quad * 16;
  }
  // One term: a (kTileM,), b (32,) in shared memory.
  __device__ __forceinline__ void term(const T* a, const T* b) {
    T left[kRowQuads * 4], right[kColumnQuads * 4];
    PYNN_UNROLL
    for (int q = 0; q < kRowQuads; ++q) load_quad(left + 4 * q, a + row(q));
    PYNN_UNROLL
    for (int q = 0; q < kColumnQuads; ++q) load_quad(right + 4 * q, b + column(q));
    PYNN_UNROLL
    for (int i = 0; i < kRowQuads * 4; ++i) {
      PYNN_UNROLL
      for (int j = 0; j < kColumnQuads * 4; ++j) sum[i][j] += left[i] * right[j];
    }
  }
  template <int kPitchA, int kPitchB, int kRun>
  __device__ __forceinline__ void run(const T* a, const T* b) {
    PYNN_UNROLL
    for (int k = 0; k < kRun; ++k) term(a + k * kPitchA, b + k * kPitchB);
  }
  template <typename Function>
  __device__ __forceinline__ void each(const Function& function) {
    PYNN_UNROLL
    for (int i = 0; i < kRowQuads * 4; ++i) {
      PYNN_UNROLL
      for (int q = 0; q < kColumnQuads; ++q)
        function(row(i / 4) + i % 4, column(q), sum[i] + 4 * q);
    }
  }
  template <typename Function>
  __device__ __forceinline__ void each_sum(const Function& function) {
    PYNN_UNROLL
    for (int i = 0; i < kRowQuads * 4; ++i) {
      PYNN_UNROLL
      for (int j = 0; j < kColumnQuads * 4; ++j) function(i * kColumnQuads * 4 + j, sum[i][j]);
    }
  }

 private:
  static __device__ __forceinline__ void load_quad(float* to, const float* from) {
    const float4 quad = *reinterpret_cast<const float4*>(from);
    to[0] = quad.x, to[1] = quad.y, to[2] = quad.z, to[3] = quad.w;
  }
  static __device__ __forceinline__ void load_quad(double* to, const double* from) {
    const double2 low = reinterpret_cast<const double2*>(from)[0];
    const double2 high = reinterpret_cast<const double2*>(from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = high.x, to[3] = high.y;
  }
};

// x as tf32 or bfloat16 has it, to nearest: tf32 with ties away from zero, as cvt.rna does;
// bfloat16 with ties to even.
__device__ __forceinline__ float rounded(float x, Precision precision) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return x;  // NaN, infinity
  if (precision == Precision::tf32) return __uint_as_float((bits + 0x1000u) & 0xffffe000u);
  if (precision == Precision::bf16)
    return __uint_as_float((bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u);
  return x;
}

#ifdef PYNN_TENSOR_CORES
// With tensor cores: mma.m16n8k8 of tf32 (PTX ISA, "Matrix fragments for mma.m16n8k8"). bfloat16
// values are tf32 values, and take the same way.
template <int kTileM>
struct TensorSums {
  static constexpr int kRows = kTileM / 16, kColumns = 4;  // of fragments
  static constexpr int kWide = 2;
  float sum[kRows][kColumns][4];

  __device__ __forceinline__ void clear() {
    PYNN_UNROLL
    for (auto& row : sum) {
      PYNN_UNROLL
      for (auto& fragment : row) {
        PYNN_UNROLL
        for (float& value : fragment) value = 0;
      }
    }
  }
  template <int kPitchA, int kPitchB, int kRun>
  __device__ __forceinline__ void run(const float* a, const float* b) {
    const int group = static_cast<int>(threadIdx.x) % 32 / 4,
              member = static_cast<int>(threadIdx.x) % 4;
    PYNN_UNROLL
    for (int k = 0; k < kRun; k += 8) {
      unsigned left[kRows][4], right[kColumns][2];
      PYNN_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const float* const from = a + (k + member) * kPitchA + i * 16 + group;
        left[i][0] = __float_as_uint(from[0]);
        left[i][1] = __float_as_uint(from[8]);
        left[i][2] = __float_as_uint(from[4 * kPitchA]);
        left[i][3] = __float_as_uint(from[4 * kPitchA + 8]);
      }
      PYNN_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        const float* const from = b + (k + member) * kPitchB + j * 8 + group;
        right[j][0] = __float_as_uint(from[0]);
        right[j][1] = __float_as_uint(from[4 * kPitchB]);
      }
      PYNN_UNROLL
      for (int i = 0; i < kRows; ++i) {
        PYNN_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          multiply_fragments(sum[i][j], left[i], right[j]);
        }
      }
    }
  }
  template <typename Function>
  __device__ __forceinline__ void each(const Function& function) {
    const int group = static_cast<int>(threadIdx.x) % 32 / 4,
              member = static_cast<int>(threadIdx.x) % 4;
    PYNN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      PYNN_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        function(i * 16 + group, j * 8 + member * 2, sum[i][j]);
        function(i * 16 + group + 8, j * 8 + member * 2, sum[i][j] + 2);
      }
    }
  }
  template <typename Function>
  __device__ __forceinline__ void each_sum(const Function& function) {
    PYNN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      PYNN_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        PYNN_UNROLL
        for (int l = 0; l < 4; ++l) function((i * kColumns + j) * 4 + l, sum[i][j][l]);
      }
    }
  }
};
template <typename T, typename Tile>
using SumsOf =
    std::conditional_t<Tile::kTensor, TensorSums<Tile::kTileM>, LaneSums<T, Tile::kTileM>>;
#else
template <typename T, typename Tile>
using SumsOf = LaneSums<T, Tile::kTileM>;
#endif

// What becomes of a result.
template <typename T>
struct ProductResult {
  T* y = nullptr;
  int row = 0, column = 1;     // strides of y, and of `at`
  const T* bias = nullptr;     // (M,), or null
  ActivationOf<T> activation;  // of sum + bias
  const T* at = nullptr;       // where not null, the sum is a gradient before this activation
  ActivationOf<T> before;
  bool add = false;
  bool quads = false;  // runs of four neighbours may be stored as one

  ProductResult() = default;
  ProductResult(T* y_, std::int64_t row_, std::int64_t column_ = 1)
      : y(y_), row(narrow(row_)), column(narrow(column_)) {}
  // Rows begin 16 bytes apart or multiples of it.
  void find_quads(std::int64_t batch = 0) {
    quads = sizeof(T) == 4 && column == 1 && row % 4 == 0 && batch % 4 == 0 &&
            reinterpret_cast<std::uintptr_t>(y) % 16 == 0;
  }

  template <int kWide>
  __device__ __forceinline__ void store(int M, int N, int i, int j, const T* sums) const {
    if (i >= M || j >= N) return;
    const int first = i * row + j * column;
    const T b = bias ? bias[i] : T(0);
    T value[kWide];
    PYNN_UNROLL
    for (int l = 0; l < kWide; ++l) {
      value[l] = activation(sums[l] + b);
      if (j + l >= N) continue;
      const int place = first + l * column;
      if (at) value[l] = before.backward(value[l], at[place]);
      if (add) value[l] += y[place];
    }
    if constexpr (sizeof(T) == 4) {
      if (quads && j + kWide <= N) {
        if constexpr (kWide == 4)
          *reinterpret_cast<float4*>(y + first) =
              make_float4(value[0], value[1], value[2], value[3]);
        else
          *reinterpret_cast<float2*>(y + first) = make_float2(value[0], value[1]);
        return;
      }
    }
    PYNN_UNROLL
    for (int l = 0; l < kWide; ++l)
      if (j + l < N) y[first + l * column] = value[l];
  }
};

// A factor that lies in memory with strides.
template <typename T, Along along>
struct StridedFactor {
  static constexpr Along kAlong = along;
  const T* from = nullptr;
  int line_stride = 0, term_stride = 0;
  __device__ __forceinline__ int line(int i) const { return i * line_stride; }
  __device__ __forceinline__ int term(int k) const { return k * term_stride; }
  __device__ __forceinline__ T at(int line, int term) const { return from[line + term]; }
};

// Whether the lines of a factor take some computing to find: a block does it once then, and keeps
// them in shared memory.
template <typename Factor, typename = void>
constexpr bool kTabled = false;
template <typename Factor>
constexpr bool kTabled<Factor, std::void_t<decltype(Factor::kLinesAreTabled)>> = true;

template <typename Factor>
using LineOf = decltype(std::declval<const Factor&>().line(0));

// The runs of a factor that a thread brings to shared memory. Beyond the last line it is that one
// again, of which nothing is stored.
template <typename T, typename Tile, typename Factor, int kLines, int kPitch, int kLoads>
class Carrier {
 public:
  // table (kLines,): where lines are tabled.
  __device__ __forceinline__ Carrier(const Factor& factor, int first_line, int lines, int member,
                                     LineOf<Factor>* table)
      : factor_(factor), first_line_(first_line), lines_(lines), member_(member), table_(table) {
    if constexpr (kTabled<Factor>)
      for (int i = static_cast<int>(threadIdx.x); i < kLines; i += kProductThreads)
        if (first_line + i < lines) table[i] = factor.line(first_line + i);
    if constexpr (Factor::kAlong == Along::lines) {
      static_assert(Tile::kGroupThreads % kLines == 0);
      line_ = factor.line(min(first_line + member % kLines, lines - 1));
    }
  }
  __device__ __forceinline__ void fetch(int first_term, int terms) {
    if constexpr (Factor::kAlong == Along::terms) {
      const int k = first_term + member_ % Tile::kRun;
      const bool inside = k < terms;
      const auto term = factor_.term(inside ? k : 0);
      PYNN_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int line =
            first_line_ + member_ / Tile::kRun + i * (Tile::kGroupThreads / Tile::kRun);
        value_[i] = inside ? factor_.at(find(min(line, lines_ - 1)), term) : T(0);
      }
    } else {
      PYNN_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int k = first_term + member_ / kLines + i * (Tile::kGroupThreads / kLines);
        value_[i] = k < terms ? factor_.at(line_, factor_.term(k)) : T(0);
      }
    }
  }
  __device__ __forceinline__ void put(T* stage, Precision precision) const {
    PYNN_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      T value = value_[i];
      if constexpr (Tile::kTensor) value = rounded(value, precision);
      if constexpr (Factor::kAlong == Along::terms)
        stage[member_ % Tile::kRun * kPitch + member_ / Tile::kRun +
              i * (Tile::kGroupThreads / Tile::kRun)] = value;
      else
        stage[(member_ / kLines + i * (Tile::kGroupThreads / kLines)) * kPitch + member_ % kLines] =
            value;
    }
  }

 private:
  __device__ __forceinline__ LineOf<Factor> find(int line) const {
    if constexpr (kTabled<Factor>)
      return table_[line - first_line_];
    else
      return factor_.line(line);
  }

  const Factor& factor_;
  const int first_line_, lines_, member_;
  const LineOf<Factor>* const table_;
  LineOf<Factor> line_{};
  T value_[kLoads];
};

// Problem: M, N, and part(z), which has the factors a and b, the terms `begin` ... `end`, the
// result, and row_sums (M,), the sums of the rows of a, or null.
template <typename T, typename Tile, typename Problem>
__global__ void __launch_bounds__(kProductThreads, 2)
    product_kernel(Problem problem, Precision precision) {
  begin_kernel();
  T* const shared = shared_memory<T>();
  const auto part = problem.part(static_cast<int>(blockIdx.z));
  const int group = static_cast<int>(threadIdx.x) / Tile::kGroupThreads;
  const int member = static_cast<int>(threadIdx.x) % Tile::kGroupThreads;
  const int row0 = static_cast<int>(blockIdx.y) * Tile::kM;
  const int column0 = static_cast<int>(blockIdx.x) * Tile::kN;
  T* const stage_a = shared + group * Tile::kStage;
  T* const stage_b = stage_a + Tile::kRun * Tile::kPitchA;
  using A = std::decay_t<decltype(part.a)>;
  using B = std::decay_t<decltype(part.b)>;
  static_assert(!kTabled<A>);
  auto* const table = reinterpret_cast<LineOf<B>*>(shared + Tile::kSharedBytes / sizeof(T));
  Carrier<T, Tile, A, Tile::kM, Tile::kPitchA, Tile::kLoadsA> a(part.a, row0, problem.M, member,
                                                                nullptr);
  Carrier<T, Tile, B, Tile::kN, Tile::kPitchB, Tile::kLoadsB> b(part.b, column0, problem.N, member,
                                                                table);
  if constexpr (kTabled<B>) __syncthreads();
  const int warp = member / 32;
  const T* const warp_a = stage_a + warp / Tile::kWarpsAcross * Tile::kTileM;
  const T* const warp_b = stage_b + warp % Tile::kWarpsAcross * Tile::kTileN;
  const auto meet = [] {
    if constexpr (Tile::kGroupWarps == 1)
      __syncwarp();
    else
      __syncthreads();
  };

  SumsOf<T, Tile> sums;
  sums.clear();
  T row_sum = 0;
  const bool sums_rows = part.row_sums && blockIdx.x == 0 && member < Tile::kM;
  const int turns =
      (part.end - part.begin + Tile::kRun * Tile::kGroups - 1) / (Tile::kRun * Tile::kGroups);
  int first = part.begin + group * Tile::kRun;
  a.fetch(first, part.end);
  b.fetch(first, part.end);
  for (int turn = 0; turn < turns; ++turn) {
    a.put(stage_a, precision);
    b.put(stage_b, precision);
    meet();
    first += Tile::kRun * Tile::kGroups;
    if (turn + 1 < turns) {
      a.fetch(first, part.end);
      b.fetch(first, part.end);
    }
    sums.template run<Tile::kPitchA, Tile::kPitchB, Tile::kRun>(warp_a, warp_b);
    if (sums_rows)
#pragma unroll 4
      for (int k = 0; k < Tile::kRun; ++k) row_sum += stage_a[k * Tile::kPitchA + member];
    meet();
  }

  // The sums of groups half ... 2 half join those of 0 ... half.
  if constexpr (Tile::kGroups > 1) {
    PYNN_UNROLL
    for (int half = Tile::kGroups / 2; half > 0; half /= 2) {
      __syncthreads();
      // A lane's sums lie kGroupThreads apart, so that lanes are neighbours.
      T* const place = shared + (group % half) * Tile::kGroupThreads * Tile::kSums + member;
      if (group >= half && group < 2 * half)
        sums.each_sum([=](int i, T& sum) { place[i * Tile::kGroupThreads] = sum; });
      __syncthreads();
      if (group < half)
        sums.each_sum([=](int i, T& sum) { sum += place[i * Tile::kGroupThreads]; });
    }
  }
  if (group == 0)
    sums.each([&](int i, int j, const T* values) {
      part.result.template store<SumsOf<T, Tile>::kWide>(
          problem.M, problem.N, row0 + warp / Tile::kWarpsAcross * Tile::kTileM + i,
          column0 + warp % Tile::kWarpsAcross * Tile::kTileN + j, values);
    });
  if (part.row_sums && blockIdx.x == 0) {
    __syncthreads();
    if (member < Tile::kM) shared[group * Tile::kM + member] = row_sum;
    __syncthreads();
    if (group == 0 && member < Tile::kM && row0 + member < problem.M) {
      T total = 0;
      for (int g = 0; g < Tile::kGroups; ++g) total += shared[g * Tile::kM + member];
      T& to = part.row_sums[row0 + member];
      to = part.result.add ? to + total : total;
    }
  }
}

template <typename B, typename Tile>
constexpr std::size_t kTableBytes = kTabled<B> ? Tile::kN * sizeof(LineOf<B>) : 0;

template <typename T, typename Tile, typename Problem>
void launch_product(const Problem& problem, int parts, Precision precision, cudaStream_t stream) {
  using B = decltype(Problem::Part::b);
  constexpr std::size_t kBytes = Tile::kSharedBytes + kTableBytes<B, Tile>;
  static_assert(kBytes <= kMaxSharedBytes);
  const unsigned rows = blocks_of(problem.M, Tile::kM);
  if (rows > 65535 || parts > 65535)
    throw std::invalid_argument("a product of " + std::to_string(problem.M) + " rows, " +
                                std::to_string(parts) + " times, is too large");
  launch(stream, dim3(blocks_of(problem.N, Tile::kN), rows, static_cast<unsigned>(parts)),
         kProductThreads, kBytes, product_kernel<T, Tile, Problem>, problem, precision);
}

// Whether the largest tiles are filled and keep a large device busy.
constexpr std::int64_t kManyTiles = 100;
constexpr std::int64_t kFewBlocks = 132;  // for the processors of a large device

inline bool fills_tiles(std::int64_t M, std::int64_t N) { return M >= 96 && N >= 48; }
inline std::int64_t large_tiles(std::int64_t M, std::int64_t N) {
  return (M + 127) / 128 * ((N + 63) / 64);
}
inline bool many_tiles(std::int64_t M, std::int64_t N, std::int64_t parts) {
  return fills_tiles(M, N) && large_tiles(M, N) * parts >= kManyTiles;
}

template <typename T, typename Problem>
void product(const Problem& problem, std::int64_t parts, Precision precision, cudaStream_t stream) {
  const int count = narrow(parts);
  if constexpr (sizeof(T) == 8) {
    launch_product<T, ProductTile<T, false, 16, 1, 1>>(problem, count, precision, stream);
  } else {
    const bool large = many_tiles(problem.M, problem.N, parts);
    // Flat tiles are more blocks, and leave the bits as those of 32 rows have them.
    const std::int64_t blocks = (problem.M + 31) / 32 * ((problem.N + 31) / 32) * parts;
    const bool flat = problem.M <= 16 || blocks < kFewBlocks;
    if (precision == Precision::fp32) {
      if (large)
        launch_product<T, ProductTile<T, false, 64, 2, 2>>(problem, count, precision, stream);
      else if (flat)
        launch_product<T, ProductTile<T, false, 16, 1, 1>>(problem, count, precision, stream);
      else
        launch_product<T, ProductTile<T, false, 32, 1, 1>>(problem, count, precision, stream);
    } else {
      if (large)
        launch_product<T, ProductTile<T, true, 64, 2, 2>>(problem, count, precision, stream);
      else if (flat)
        launch_product<T, ProductTile<T, true, 16, 1, 1>>(problem, count, precision, stream);
      else
        launch_product<T, ProductTile<T, true, 32, 1, 1>>(problem, count, precision, stream);
    }
  }
}

}  // namespace pynn::cuda
