// After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
// 34 (2008): panels of B, packed, stay in the second-level cache; one narrow panel of A stays in
// the first; a tile of C lives in registers.
#include "kernels/gemm.h"

#include "kernels/tile.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kDepth = 256;        // of k in a packed block, at most
constexpr std::int64_t kBlockBytes = 2048;  // in a row of a packed block of B: 256 rows are 512 KiB
constexpr std::int64_t kLate = 32;          // steps that bringing a tile of C takes
constexpr int kWide = 8;                    // vectors in the tile of a product with a single row

static_assert(kDepth * kBlockBytes / 4 + kDepth * kRows + 128 <= kGemmScratch);

// sum (R, V vectors) += A (depth, R) B (depth, V vectors).
template <typename T, int R, int V>
PYNN_INLINE void add_products(std::int64_t depth, const T* a, const T* b, std::int64_t b_row,
                              Vector<T> (&sum)[R][V]) {
  for (; depth > 0; --depth) {
    Vector<T> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(a[r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = fma(value, row[v], sum[r][v]);
    }
    a += R;
    b += b_row;
  }
}

// C (R, V vectors) = start (R, V vectors) + A (depth, R) B (depth, V vectors), where A is packed.
// `next`, another tile of C, is brought into the first-level cache meanwhile.
template <typename T, int R, int V>
void tile(std::int64_t depth, const T* a, const T* b, std::int64_t b_row, const T* start,
          std::int64_t start_row, T* c, std::int64_t c_row, const T* next) {
  constexpr int lanes = kLanes<T>;
  Vector<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = load(start + r * start_row + v * lanes);
  const std::int64_t late = depth > 2 * kLate ? kLate : 0;
  add_products<T, R, V>(depth - late, a, b, b_row, sum);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    __builtin_prefetch(next + r * c_row);
    __builtin_prefetch(next + r * c_row + V * lanes - 1);
  }
  if (late > 0)
    add_products<T, R, V>(late, a + (depth - late) * R, b + (depth - late) * b_row, b_row, sum);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store<T>(c + r * c_row + v * lanes, sum[r][v]);
}

template <typename T>
using TileFunction = void (*)(std::int64_t, const T*, const T*, std::int64_t, const T*,
                              std::int64_t, T*, std::int64_t, const T*);

template <typename T, int V, int R = kRows>
TileFunction<T> find_tile(std::int64_t rows) {
  if constexpr (R == 1)
    return tile<T, 1, V>;
  else
    return rows == R ? tile<T, R, V> : find_tile<T, V, R - 1>(rows);
}

// Panels of B two vectors wide, packed one after the other; rows of B are dense and are read in the
// order in which they lie.
template <typename T>
void pack_rows(std::int64_t panels, std::int64_t depth, const T* from, std::int64_t row_stride,
               T* to) {
  constexpr int lanes = kLanes<T>;
  constexpr std::int64_t rows_at_once = 4;
  for (std::int64_t k = 0; k < depth; k += rows_at_once) {
    const std::int64_t end = k + rows_at_once < depth ? k + rows_at_once : depth;
    for (std::int64_t panel = 0; panel < panels; ++panel)
      for (std::int64_t i = k; i < end; ++i) {
        const T* const source = from + i * row_stride + panel * 2 * lanes;
        T* const target = to + (panel * depth + i) * 2 * lanes;
        store<T>(target, load(source));
        store<T>(target + lanes, load(source + lanes));
      }
  }
}

template <typename T>
constexpr std::int64_t kBlockColumns = kBlockBytes / static_cast<std::int64_t>(sizeof(T));

// Panels of about equal height, from top to bottom.
struct Panels {
  explicit Panels(std::int64_t rows) : rows(rows), count((rows + kRows - 1) / kRows) {}
  std::int64_t begin(std::int64_t panel) const { return rows * panel / count; }
  std::int64_t rows, count;
};

// Of k in each packed block but the last: about equal, and whole squares for `pack` to transpose.
PYNN_INLINE std::int64_t block_depth(std::int64_t K) {
  const std::int64_t blocks = K > kDepth ? (K + kDepth - 1) / kDepth : 1;
  return ((K + blocks - 1) / blocks + 15) / 16 * 16;
}

template <typename T>
void pack_a(const Gemm<T>& g, T* to) {
  const Panels panels(g.M);
  const std::int64_t most = block_depth(g.K);
  for (std::int64_t k = 0; k < g.K; k += most)
    for (std::int64_t panel = 0; panel < panels.count; ++panel) {
      const std::int64_t row = panels.begin(panel), rows = panels.begin(panel + 1) - row;
      const std::int64_t depth = smaller(g.K - k, most);
      pack(rows, rows, depth, g.a + row * g.a_row + k * g.a_column, g.a_row, g.a_column,
           to + g.M * k + row * depth);
    }
}

template <typename T>
void pack_b(const Gemm<T>& g, T* to) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t most = block_depth(g.K);
  for (std::int64_t column = 0; column < g.N; column += kBlockColumns<T>) {
    const std::int64_t columns = smaller(g.N - column, kBlockColumns<T>);
    for (std::int64_t k = 0; k < g.K; k += most) {
      const std::int64_t depth = smaller(g.K - k, most);
      const T* const b = g.b + k * g.b_row + column * g.b_column;
      const std::int64_t at_once = g.b_column == 1 ? columns / (2 * lanes) : 0;
      pack_rows(at_once, depth, b, g.b_row, to);
      for (std::int64_t j = at_once * 2 * lanes; j < columns; j += 2 * lanes) {
        const std::int64_t left = columns - j, width = left > lanes ? 2 * lanes : lanes;
        pack(width, smaller(left, width), depth, b + j * g.b_column, g.b_column, g.b_row,
             to + j * depth);
      }
      to += (columns + lanes - 1) / lanes * lanes * depth;
    }
  }
}

template <typename T>
void multiply(const Gemm<T>& g, T* scratch) {
  constexpr int lanes = kLanes<T>;
  if (g.M <= 0 || g.N <= 0) return;
  T* const packed_a = scratch;
  T* const packed_b = scratch + kDepth * kRows + 64;
  const Panels panels(g.M);
  const std::int64_t most = block_depth(g.K);
  const bool direct = !g.packed_b && g.b_column == 1 && (g.b_padded || panels.count == 1);
  alignas(64) T edge[kRows * 2 * lanes] = {};
  alignas(64) T starts[kRows * 2 * lanes];  // what a panel's tiles start from, if not from C
  const std::int64_t starts_row = g.M == 1 ? kWide * lanes : 2 * lanes;
  static_assert(kRows * 2 >= kWide);

  for (std::int64_t column = 0; column < g.N; column += kBlockColumns<T>) {
    const std::int64_t columns = smaller(g.N - column, kBlockColumns<T>);
    std::int64_t k = 0;
    do {  // once even where K is 0: C gets its start
      const std::int64_t depth = smaller(g.K - k, most);
      const bool fresh = k == 0 && !g.accumulate;
      const T* const given_b =
          g.packed_b ? g.packed_b + column * g.K + (columns + lanes - 1) / lanes * lanes * k
                     : nullptr;
      const std::int64_t packed_at_once =
          !direct && !given_b && g.b_column == 1 ? columns / (2 * lanes) : 0;
      pack_rows(packed_at_once, depth, g.b + k * g.b_row + column, g.b_row, packed_b);
      for (std::int64_t panel = 0; panel < panels.count; ++panel) {
        const std::int64_t row = panels.begin(panel), rows = panels.begin(panel + 1) - row;
        const T* const a = g.packed_a ? g.packed_a + g.M * k + row * depth : packed_a;
        if (!g.packed_a)
          pack(rows, rows, depth, g.a + row * g.a_row + k * g.a_column, g.a_row, g.a_column,
               packed_a);
        if (fresh && !g.column_start)
          for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t i = 0; i < starts_row; i += lanes)
              store<T>(starts + r * starts_row + i,
                       broadcast(g.row_start ? g.row_start[row + r] : T(0)));
        const TileFunction<T> narrow = find_tile<T, 1>(rows), normal = find_tile<T, 2>(rows);
        std::int64_t width;
        for (std::int64_t j = 0; j < columns; j += width) {
          const std::int64_t left = columns - j;
          const bool wide = g.M == 1 && !given_b && left > kWide / 2 * lanes;
          width = (wide ? kWide : left > lanes ? 2 : 1) * lanes;
          const TileFunction<T> function = wide           ? tile<T, 1, kWide>
                                           : left > lanes ? normal
                                                          : narrow;
          const std::int64_t valid = smaller(left, width);

          const T* b = g.b + k * g.b_row + (column + j) * g.b_column;
          std::int64_t b_row = g.b_row;
          if (given_b) {
            b = given_b + j * depth;
            b_row = width;
          } else if (!direct || (valid < width && !g.b_padded)) {
            T* const packed = packed_b + (direct ? 0 : j * depth);
            if (panel == 0 && j >= packed_at_once * 2 * lanes)
              pack(width, valid, depth, b, g.b_column, g.b_row, packed);
            b = packed;
            b_row = width;
          }

          T* const c = g.c + row * g.c_row + column + j;
          T* const target = valid < width ? edge : c;
          const std::int64_t target_row = valid < width ? width : g.c_row;
          const T* start = target;
          std::int64_t start_row = target_row;
          if (!fresh) {
            if (valid < width)
              for (std::int64_t r = 0; r < rows; ++r)
                copy_run(valid, c + r * g.c_row, edge + r * width);
          } else if (!g.column_start) {
            start = starts;
            start_row = starts_row;
          } else {
            start_row = 0;
            if (valid < width)
              copy_run(valid, g.column_start + column + j, edge);
            else
              start = g.column_start + column + j;
          }
          function(depth, a, b, b_row, start, start_row, target, target_row,
                   left > width ? c + width : c);
          if (valid < width)
            for (std::int64_t r = 0; r < rows; ++r)
              copy_run(valid, edge + r * width, c + r * g.c_row);
        }
      }
      k += depth;
    } while (k < g.K);
  }
}

// A single row, where k is what lies dense in B: its columns are made in registers, so that B is
// read once and never packed. Two bundles of columns hide each other's latency.
template <typename T>
void multiply_row(const Gemm<T>& g, std::int64_t columns) {
  constexpr int lanes = kLanes<T>, steps = 16 / sizeof(T);
  constexpr std::int64_t line = 64 / sizeof(T), ahead = 8 * line;  // of k, that are prefetched
  for (std::int64_t column = 0; column < columns; column += 2 * lanes) {
    Vector<T> sum[2];
#pragma GCC unroll 2
    for (int bundle = 0; bundle < 2; ++bundle) {
      const std::int64_t first = column + bundle * lanes;
      sum[bundle] = g.accumulate     ? load(g.c + first)
                    : g.column_start ? load(g.column_start + first)
                                     : broadcast(g.row_start ? *g.row_start : T(0));
    }
    const T* const b = g.b + column * g.b_column;
    const auto add = [&](std::int64_t k, int used) {
      Vector<T> left[steps], right[steps];
      load_columns(b + k, g.b_column, left);
      load_columns(b + lanes * g.b_column + k, g.b_column, right);
#pragma GCC unroll 4
      for (int i = 0; i < steps; ++i) {
        if (i < used) continue;
        const Vector<T> value = broadcast(g.a[(k + i) * g.a_column]);
        sum[0] = fma(value, left[i], sum[0]);
        sum[1] = fma(value, right[i], sum[1]);
      }
    };
    std::int64_t k = 0;
    for (; k + line <= g.K; k += line) {
      for (int i = 0; i < 2 * lanes; ++i) __builtin_prefetch(b + i * g.b_column + k + ahead);
      for (std::int64_t i = k; i < k + line; i += steps) add(i, 0);
    }
    for (; k + steps <= g.K; k += steps) add(k, 0);
    // The last steps reach back to where all of them exist; the first of them have been used.
    if (k < g.K) add(g.K - steps, static_cast<int>(k - (g.K - steps)));
    store<T>(g.c + column, sum[0]);
    store<T>(g.c + column + lanes, sum[1]);
  }
}

template <typename T>
void run(const Gemm<T>& g, T* scratch) {
  constexpr std::int64_t pair = 2 * kLanes<T>;
  const bool packed = g.packed_a || g.packed_b;
  if (!packed && g.M == 1 && g.b_row == 1 && g.b_column != 1 &&
      g.K * std::int64_t{sizeof(T)} >= 16 && g.N >= pair) {
    const std::int64_t columns = g.N / pair * pair;
    multiply_row(g, columns);
    if (columns == g.N) return;
    Gemm<T> rest = g;
    rest.N -= columns;
    rest.b += columns * g.b_column;
    rest.c += columns;
    if (g.column_start) rest.column_start += columns;
    return multiply(rest, scratch);
  }
  if (packed || g.N != 1 || g.c_row != 1 || g.M <= 1) return multiply(g, scratch);
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
  run(transposed, scratch);
}

}  // namespace

void gemm(const Gemm<float>& product, float* scratch) { run(product, scratch); }
void gemm(const Gemm<double>& product, double* scratch) { run(product, scratch); }

void get(GemmKernels<float>& k) { k = {run<float>, pack_a<float>, pack_b<float>}; }
void get(GemmKernels<double>& k) { k = {run<double>, pack_a<double>, pack_b<double>}; }

}  // namespace pynn::PYNN_ISA
