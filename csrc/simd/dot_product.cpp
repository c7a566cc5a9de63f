#include "simd/dot_product.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// The most columns of a tile of R rows, whose sums, a column of A and a value of B must fit the
// registers.
template <int R>
constexpr int kMostColumns =
#if defined(__AVX512F__) || defined(__aarch64__)
    R == 1   ? 12
    : R == 2 ? 10
    : R == 3 ? 7
    : R == 4 ? 6
             : 5;
constexpr int kMostRows = 5;
#else
    R == 1   ? 10
    : R == 2 ? 5
    : R == 3 ? 4
             : 2;
constexpr int kMostRows = 4;
#endif

constexpr int kAhead = 8;  // so many k before it is needed, B is fetched

template <typename T, int R, int C>
void tile(const DotProduct<T>& p, std::int64_t row, std::int64_t column) {
  constexpr int lanes = kLanes<T>, per_column = static_cast<int>(kBlockLanes) / lanes;
  T* const sums = p.sums + (row * p.columns + column) * lanes;
  Vector<T> sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
      sum[r][c] = p.add ? load(sums + (r * p.columns + c) * lanes) : Vector<T>{};
  const T* const a = p.a + row * p.a_row;
  const T* b[C];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c) b[c] = p.b + p.b_columns[column + c];
  const auto one = [&](std::int64_t k) {
    const std::int64_t b_offset = p.b_offsets[k];
#pragma GCC unroll 8
    for (int part = 0; part < per_column; ++part) {
      const T* const at = a + k * kBlockLanes + part * lanes;
      Vector<T> value[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) value[r] = load(at + r * p.a_row);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) {
        const Vector<T> other = load(b[c] + b_offset + part * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r][c] = fma(value[r], other, sum[r][c]);
      }
    }
  };
  std::int64_t k = 0;
  for (; k + kAhead < p.depth; ++k) {
    const std::int64_t ahead = p.b_offsets[k + kAhead];
    __builtin_prefetch(b[0] + ahead);  // columns between the first and the last: mostly theirs
    if (C > 1) __builtin_prefetch(b[C - 1] + ahead);
    one(k);
  }
  for (; k < p.depth; ++k) one(k);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) store<T>(sums + (r * p.columns + c) * lanes, sum[r][c]);
}

template <typename T>
using TileFunction = void (*)(const DotProduct<T>&, std::int64_t, std::int64_t);

template <typename T, int R, int C = kMostColumns<R>>
TileFunction<T> find_columns(std::int64_t columns) {
  if constexpr (C == 1)
    return tile<T, R, 1>;
  else
    return columns == C ? tile<T, R, C> : find_columns<T, R, C - 1>(columns);
}

template <typename T, int R = kMostRows>
TileFunction<T> find_tile(std::int64_t rows, std::int64_t columns) {
  if constexpr (R == 1)
    return find_columns<T, 1>(columns);
  else
    return rows == R ? find_columns<T, R>(columns) : find_tile<T, R - 1>(rows, columns);
}

template <int R = kMostRows>
std::int64_t tile_columns(std::int64_t rows) {
  if constexpr (R == 1)
    return kMostColumns<1>;
  else
    return rows == R ? kMostColumns<R> : tile_columns<R - 1>(rows);
}

template <typename T>
void run(const DotProduct<T>& p) {
  const std::int64_t row_tiles = (p.rows + kMostRows - 1) / kMostRows;
  for (std::int64_t i = 0; i < row_tiles; ++i) {
    const std::int64_t row = p.rows * i / row_tiles, rows = p.rows * (i + 1) / row_tiles - row;
    const std::int64_t most = tile_columns(rows), tiles = (p.columns + most - 1) / most;
    for (std::int64_t j = 0; j < tiles; ++j) {
      const std::int64_t column = p.columns * j / tiles;
      find_tile<T>(rows, p.columns * (j + 1) / tiles - column)(p, row, column);
    }
  }
}

template <typename T>
void sum_lanes(std::int64_t count, const T* sums, bool accumulate, T* to) {
  constexpr int lanes = kLanes<T>;
  Vector<T> square[lanes];
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) square[r] = load(sums + (i + r) * lanes);
    const Vector<T> result = lane_sums(square);
    store<T>(to + i, accumulate ? load(to + i) + result : result);
  }
  if (i == count) return;
  for (int r = 0; r < lanes; ++r)
    square[r] = i + r < count ? load(sums + (i + r) * lanes) : Vector<T>{};
  T result[lanes];
  store<T>(result, lane_sums(square));
  for (int r = 0; i + r < count; ++r) to[i + r] = accumulate ? to[i + r] + result[r] : result[r];
}

template <typename T>
void sum_rows(std::int64_t rows, std::int64_t row, std::int64_t blocks, std::int64_t stride,
              std::int64_t columns, const T* a, bool add, T* to) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t vectors = columns * (kBlockLanes / lanes);
  T sums[lanes * lanes];
  for (std::int64_t first = 0; first < rows; first += lanes) {
    const std::int64_t count = rows - first < lanes ? rows - first : lanes;
    for (std::int64_t r = 0; r < count; ++r) {
      Vector<T> sum[4] = {};
      for (std::int64_t block = 0; block < blocks; ++block) {
        const T* const from = a + (first + r) * row + block * stride;
        std::int64_t i = 0;
        for (; i + 4 <= vectors; i += 4)
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) sum[j] = sum[j] + load(from + (i + j) * lanes);
        for (; i < vectors; ++i) sum[0] = sum[0] + load(from + i * lanes);
      }
      store<T>(sums + r * lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    sum_lanes<T>(count, sums, add, to + first);
  }
}

template <typename T>
DotProductKernels<T> kernels() {
  return {run<T>, sum_lanes<T>, sum_rows<T>, kMostRows, kMostColumns<kMostRows>, kLanes<T>};
}

}  // namespace

void get(DotProductKernels<float>& k) { k = kernels<float>(); }
void get(DotProductKernels<double>& k) { k = kernels<double>(); }

}  // namespace pynn::PYNN_ISA
