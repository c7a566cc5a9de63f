#include "simd/few_rows.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// Rows of a tile: its sums, and the columns that are made for them, must fit the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 15;
#else
constexpr int kTileRows = 8;
#endif

PYNN_INLINE float multiply_add(float a, float b, float c) {
  return fma(broadcast(a), broadcast(b), broadcast(c))[0];
}
PYNN_INLINE double multiply_add(double a, double b, double c) {
  return fma(broadcast(a), broadcast(b), broadcast(c))[0];
}

// Which of the lanes of a result are written.
struct Part {
  std::int64_t skipped, count;
};

// y (R, a vector) = x w^T + b, for the outputs first, first + 1, ... Where k is what lies dense in
// w, its columns are made in registers. Not whole: there are only as many outputs as are written,
// and the last stands for the others.
template <typename T, int R, bool Whole>
void forward_tile(const FewRowsShape& s, std::int64_t first, const T* x, const T* w, const T* b,
                  bool relu, const Part& part, T* y) {
  constexpr int lanes = kLanes<T>, steps = 16 / static_cast<int>(sizeof(T));
  constexpr std::int64_t line = 64 / sizeof(T), ahead = 8 * line;
  const std::int64_t inputs = s.inputs, last = part.count - 1;
  const T* const rows = w + first * inputs;
  T edge[lanes * steps];
  Vector<T> start = {};
  if (b && Whole) {
    start = load(b + first);
  } else if (b) {
    for (int i = 0; i < lanes; ++i) edge[i] = b[first + (i < last ? i : last)];
    start = load(edge);
  }
  Vector<T> sum[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sum[r] = start;
  const auto add = [&](std::int64_t k, int used) {
    Vector<T> columns[steps];
    if (Whole) {
      load_columns(rows + k, inputs, columns);
    } else {
      for (int i = 0; i < lanes; ++i)
        __builtin_memcpy(edge + i * steps, rows + (i < last ? i : last) * inputs + k,
                         steps * sizeof(T));
      load_columns(edge, std::int64_t{steps}, columns);
    }
#pragma GCC unroll 4
    for (int i = 0; i < steps; ++i) {
      if (i < used) continue;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
        sum[r] = fma(broadcast(x[r * inputs + k + i]), columns[i], sum[r]);
    }
  };
  std::int64_t k = 0;
  for (; k + line <= inputs; k += line) {
    for (int i = 0; i < lanes && Whole; ++i) __builtin_prefetch(rows + i * inputs + k + ahead);
    for (std::int64_t i = k; i < k + line; i += steps) add(i, 0);
  }
  for (; k + steps <= inputs; k += steps) add(k, 0);
  // The last steps reach back to where all of them exist; the first of them have been used.
  if (k < inputs) add(inputs - steps, static_cast<int>(k - (inputs - steps)));
  const Vector<T> zero = {};
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const Vector<T> result = relu ? (sum[r] < zero ? zero : sum[r]) : sum[r];
    T* const to = y + r * s.outputs + first;
    if (part.count == lanes) {
      store<T>(to, result);
    } else {
      store<T>(edge, result);
      copy_run(part.count, edge + part.skipped, to + part.skipped);
    }
  }
}

template <typename T>
using ForwardTile = void (*)(const FewRowsShape&, std::int64_t, const T*, const T*, const T*, bool,
                             const Part&, T*);

template <typename T, bool Whole, int R = kTileRows>
ForwardTile<T> find_forward(std::int64_t rows) {
  if constexpr (R == 1)
    return forward_tile<T, 1, Whole>;
  else
    return rows == R ? forward_tile<T, R, Whole> : find_forward<T, Whole, R - 1>(rows);
}

template <typename T>
void forward(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* x, const T* w,
             const T* b, bool relu, T* y) {
  constexpr int lanes = kLanes<T>;
  if (s.inputs < 16 / static_cast<int>(sizeof(T))) {
    for (std::int64_t n = 0; n < s.rows; ++n)
      for (std::int64_t o = begin; o < end; ++o) {
        T sum = b ? b[o] : T(0);
        for (std::int64_t k = 0; k < s.inputs; ++k)
          sum = multiply_add(x[n * s.inputs + k], w[o * s.inputs + k], sum);
        y[n * s.outputs + o] = relu && sum < T(0) ? T(0) : sum;
      }
    return;
  }
  const std::int64_t tiles = (s.rows + kTileRows - 1) / kTileRows;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t row = s.rows * tile / tiles, rows = s.rows * (tile + 1) / tiles - row;
    const T* const x_tile = x + row * s.inputs;
    T* const y_tile = y + row * s.outputs;
    const ForwardTile<T> whole = find_forward<T, true>(rows);
    std::int64_t column = begin;
    for (; column + lanes <= end; column += lanes)
      whole(s, column, x_tile, w, b, relu, {0, lanes}, y_tile);
    if (column == end) continue;
    const std::int64_t first = end - lanes;  // columns from there on are computed again
    if (first >= 0)
      whole(s, first, x_tile, w, b, relu, {column - first, end - column}, y_tile);
    else
      find_forward<T, false>(rows)(s, column, x_tile, w, b, relu, {0, end - column}, y_tile);
  }
}

// dx (columns,) += the products of O rows of w with an element of dy each; fresh: dx is 0.
template <typename T, int O>
void add_outputs(std::int64_t columns, std::int64_t inputs, const T* dy, const T* w, bool fresh,
                 T* dx) {
  constexpr int lanes = kLanes<T>;
  Vector<T> values[O];
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o) values[o] = broadcast(dy[o]);
  std::int64_t i = 0;
#pragma GCC unroll 2
  for (; i + lanes <= columns; i += lanes) {
    Vector<T> sum = fresh ? Vector<T>{} : load(dx + i);
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) sum = fma(values[o], load(w + o * inputs + i), sum);
    store<T>(dx + i, sum);
  }
  for (; i < columns; ++i) {
    T sum = fresh ? T(0) : dx[i];
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) sum = multiply_add(dy[o], w[o * inputs + i], sum);
    dx[i] = sum;
  }
}

template <typename T>
void backward_input(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                    const T* w, const T* mask, T* dx) {
  // Columns for which dx stays in the first-level cache.
  constexpr std::int64_t most = 32768 / sizeof(T);
  const std::int64_t block = s.rows < 16 ? most / (s.rows > 1 ? s.rows : 1) : most / 16;
  for (std::int64_t column = begin; column < end; column += block) {
    const std::int64_t columns = end - column < block ? end - column : block;
    std::int64_t o = 0, step = 0;
    do {  // once even where there are no outputs: dx is 0
      const std::int64_t left = s.outputs - o;
      step = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : left;
      const auto function = step == 8   ? add_outputs<T, 8>
                            : step == 4 ? add_outputs<T, 4>
                            : step == 2 ? add_outputs<T, 2>
                            : step == 1 ? add_outputs<T, 1>
                                        : add_outputs<T, 0>;
      for (std::int64_t n = 0; n < s.rows; ++n)
        function(columns, s.inputs, dy + n * s.outputs + o, w + o * s.inputs + column, o == 0,
                 dx + n * s.inputs + column);
      o += step;
    } while (o < s.outputs);
    for (std::int64_t n = 0; n < s.rows && mask; ++n) {
      const T* const x_n = mask + n * s.inputs;
      T* const dx_n = dx + n * s.inputs;
      for (std::int64_t i = column; i < column + columns; ++i)
        dx_n[i] = x_n[i] <= T(0) ? T(0) : dx_n[i];
    }
  }
}

template <typename T>
PYNN_INLINE Vector<T> written(bool add, const GradientStep<T>* step, const T* dw,
                              typename VectorType<T>::type gradient) {
  if (step) {
    const Vector<T> before = load(dw);
    return before - broadcast(step->rate) * (gradient + broadcast(step->decay) * before);
  }
  return add ? load(dw) + gradient : gradient;
}

// dw (R, V vectors), or where V is 0, as many elements as are `left`, less than a vector.
template <typename T, int R, int V>
PYNN_INLINE void weight_tile(const FewRowsShape& s, const T* dy, const T* x, bool add,
                             const GradientStep<T>* step, std::int64_t left, T* dw) {
  constexpr int lanes = kLanes<T>, vectors = V ? V : 1;
  Vector<T> sum[R][vectors] = {};
  T edge[lanes] = {};
  for (std::int64_t n = 0; n < s.rows; ++n, x += s.inputs, dy += s.outputs) {
    Vector<T> row[vectors];
    if (V == 0) copy_run(left, x, edge);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) row[v] = load(V == 0 ? edge : x + v * lanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(dy[r]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(value, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      T* const to = dw + r * s.inputs + v * lanes;
      if (V > 0) {
        store<T>(to, written(add, step, to, sum[r][v]));
      } else {
        copy_run(left, to, edge);
        store<T>(edge, written(add, step, edge, sum[r][v]));
        copy_run(left, edge, to);
      }
    }
}

template <typename T, int R>
void weight_rows(const FewRowsShape& s, const T* dy, const T* x, bool add,
                 const GradientStep<T>* step, T* dw) {
  constexpr int lanes = kLanes<T>, wide = kTileRows > 8 ? 4 : 2;
  std::int64_t i = 0;
  for (; i + wide * lanes <= s.inputs; i += wide * lanes)
    weight_tile<T, R, wide>(s, dy, x + i, add, step, 0, dw + i);
  for (; i + lanes <= s.inputs; i += lanes)
    weight_tile<T, R, 1>(s, dy, x + i, add, step, 0, dw + i);
  if (i < s.inputs) weight_tile<T, R, 0>(s, dy, x + i, add, step, s.inputs - i, dw + i);
}

template <typename T>
void backward_weight(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                     const T* x, bool add, const GradientStep<T>* step, T* dw) {
  std::int64_t o = begin;
  for (; o + 4 <= end; o += 4) weight_rows<T, 4>(s, dy + o, x, add, step, dw + o * s.inputs);
  for (; o < end; ++o) weight_rows<T, 1>(s, dy + o, x, add, step, dw + o * s.inputs);
}

}  // namespace

void get(FewRowsKernels<float>& k) {
  k = {forward<float>, backward_input<float>, backward_weight<float>};
}
void get(FewRowsKernels<double>& k) {
  k = {forward<double>, backward_input<double>, backward_weight<double>};
}

}  // namespace pynn::PYNN_ISA
