// After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
// 34 (2008): panels of B, packed, stay in the second-level cache; one narrow panel of A stays in
// the first; a tile of C lives in registers.
#include "kernels/gemm.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// Rows of a register tile; it is two vectors wide, and both must leave room for a row of B and a
// value of A.
#if defined(__AVX512F__)
constexpr int kRows = 12;
#elif defined(__AVX2__)
constexpr int kRows = 6;
#elif defined(__aarch64__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr std::int64_t kDepth = 256;        // of k in a packed block
constexpr std::int64_t kBlockBytes = 2048;  // in a row of a packed block of B: 256 rows are 512 KiB
constexpr int kWide = 8;                    // vectors in the tile of a product with a single row

static_assert(kDepth * kBlockBytes / 4 + kDepth * kRows + 128 <= kGemmScratch);

// C (R, V vectors) += A (depth, R) B (depth, V vectors), where A is packed and depth is at least 1.
template <typename T, int R, int V>
void tile(std::int64_t depth, const T* a, const T* b, std::int64_t b_row, T* c,
          std::int64_t c_row) {
  constexpr int lanes = kLanes<T>;
  Vector<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = load(c + r * c_row + v * lanes);
  do {
    Vector<T> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = load(b + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(a[r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = fma(value, row[v], sum[r][v]);
    }
    a += R;
    b += b_row;
  } while (--depth > 0);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store<T>(c + r * c_row + v * lanes, sum[r][v]);
}

template <typename T>
using TileFunction = void (*)(std::int64_t, const T*, const T*, std::int64_t, T*, std::int64_t);

template <typename T, int V, int R = kRows>
TileFunction<T> find_tile(std::int64_t rows) {
  if constexpr (R == 1)
    return tile<T, 1, V>;
  else
    return rows == R ? tile<T, R, V> : find_tile<T, V, R - 1>(rows);
}

// to (depth, width) = from, whose first `valid` lanes exist; the others become 0. Where width is no
// multiple of a vector's, up to a vector beyond the end of `to` is written.
template <typename T>
void pack(std::int64_t width, std::int64_t valid, std::int64_t depth, const T* from,
          std::int64_t lane_stride, std::int64_t depth_stride, T* to) {
  constexpr int lanes = kLanes<T>;
  if (lane_stride == 1) {
    for (std::int64_t k = 0; k < depth; ++k) {
      copy_run(valid, from + k * depth_stride, to + k * width);
      for (std::int64_t j = valid; j < width; ++j) to[k * width + j] = T(0);
    }
    return;
  }
  std::int64_t done = 0;
  if (depth_stride == 1 && width > 1) {
    done = depth / lanes * lanes;
    // The last lanes first: what they write beyond their row is then overwritten.
    for (std::int64_t j = (width - 1) / lanes * lanes; j >= 0; j -= lanes) {
      for (std::int64_t k = 0; k < done; k += lanes) {
        Vector<T> square[lanes];
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i)
          square[i] = j + i < valid ? load(from + (j + i) * lane_stride + k) : Vector<T>{};
        transpose<T>(square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store<T>(to + (k + i) * width + j, square[i]);
      }
    }
  }
  for (std::int64_t k = done; k < depth; ++k) {
    for (std::int64_t j = 0; j < valid; ++j)
      to[k * width + j] = from[j * lane_stride + k * depth_stride];
    for (std::int64_t j = valid; j < width; ++j) to[k * width + j] = T(0);
  }
}

// What a tile of C starts from, when it is not what C holds.
template <typename T>
PYNN_INLINE void start_tile(const Gemm<T>& g, std::int64_t row, std::int64_t column,
                            std::int64_t rows, std::int64_t columns, T* c, std::int64_t c_row) {
  for (std::int64_t r = 0; r < rows; ++r) {
    if (g.column_start) {
      copy_run(columns, g.column_start + column, c + r * c_row);
      continue;
    }
    const T value = g.row_start ? g.row_start[row + r] : T(0);
    for (std::int64_t j = 0; j < columns; ++j) c[r * c_row + j] = value;
  }
}

template <typename T>
void multiply(const Gemm<T>& g, T* scratch) {
  constexpr int lanes = kLanes<T>;
  constexpr std::int64_t block_columns = kBlockBytes / static_cast<std::int64_t>(sizeof(T));
  if (g.M <= 0 || g.N <= 0) return;
  T* const packed_a = scratch;
  T* const packed_b = scratch + kDepth * kRows + 64;
  const std::int64_t panels = (g.M + kRows - 1) / kRows;
  const bool direct = g.b_column == 1 && (g.b_padded || panels == 1);
  alignas(64) T edge[kRows * 2 * lanes];

  for (std::int64_t column = 0; column < g.N; column += block_columns) {
    const std::int64_t columns = g.N - column < block_columns ? g.N - column : block_columns;
    std::int64_t k = 0;
    do {  // once even where K is 0: C gets its start
      const std::int64_t depth = g.K - k < kDepth ? g.K - k : kDepth;
      for (std::int64_t panel = 0; panel < panels; ++panel) {
        const std::int64_t row = g.M * panel / panels;
        const std::int64_t rows = g.M * (panel + 1) / panels - row;
        pack(rows, rows, depth, g.a + row * g.a_row + k * g.a_column, g.a_row, g.a_column,
             packed_a);
        const TileFunction<T> narrow = find_tile<T, 1>(rows), normal = find_tile<T, 2>(rows);
        std::int64_t width;
        for (std::int64_t j = 0; j < columns; j += width) {
          const std::int64_t left = columns - j;
          const bool wide = g.M == 1 && left > kWide / 2 * lanes;
          width = (wide ? kWide : left > lanes ? 2 : 1) * lanes;
          const TileFunction<T> function = wide           ? tile<T, 1, kWide>
                                           : left > lanes ? normal
                                                          : narrow;
          const std::int64_t valid = left < width ? left : width;

          const T* b = g.b + k * g.b_row + (column + j) * g.b_column;
          std::int64_t b_row = g.b_row;
          if (!direct || (valid < width && !g.b_padded)) {
            T* const packed = packed_b + (direct ? 0 : j * depth);
            if (panel == 0) pack(width, valid, depth, b, g.b_column, g.b_row, packed);
            b = packed;
            b_row = width;
          }

          T* const c = g.c + row * g.c_row + column + j;
          T* target = c;
          std::int64_t target_row = g.c_row;
          if (valid < width) {
            target = edge;
            target_row = width;
            for (std::int64_t i = 0; i < rows * width; i += lanes) store<T>(edge + i, Vector<T>{});
          }
          if (k == 0 && !g.accumulate)
            start_tile(g, row, column + j, rows, valid, target, target_row);
          else if (valid < width)
            for (std::int64_t r = 0; r < rows; ++r)
              copy_run(valid, c + r * g.c_row, edge + r * width);
          if (depth > 0) function(depth, packed_a, b, b_row, target, target_row);
          if (valid < width)
            for (std::int64_t r = 0; r < rows; ++r)
              copy_run(valid, edge + r * width, c + r * g.c_row);
        }
      }
      k += depth;
    } while (k < g.K);
  }
}

template <typename T>
void run(const Gemm<T>& g, T* scratch) {
  if (g.N != 1 || g.c_row != 1 || g.M <= 1) return multiply(g, scratch);
  // A single column, (A b)^T = b^T A^T: its rows take the lanes.
  Gemm<T> transposed = g;
  transposed.M = 1;
  transposed.N = g.M;
  transposed.a = g.b;
  transposed.a_row = g.b_column;
  transposed.a_column = g.b_row;
  transposed.b = g.a;
  transposed.b_row = g.a_column;
  transposed.b_column = g.a_row;
  transposed.row_start = g.column_start;
  transposed.column_start = g.row_start;
  transposed.b_padded = false;
  multiply(transposed, scratch);
}

}  // namespace

void gemm(const Gemm<float>& product, float* scratch) { run(product, scratch); }
void gemm(const Gemm<double>& product, double* scratch) { run(product, scratch); }

void get(GemmKernels<float>& k) { k = {run<float>}; }
void get(GemmKernels<double>& k) { k = {run<double>}; }

}  // namespace pynn::PYNN_ISA
