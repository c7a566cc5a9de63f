#include "simd/few_rows.h"

#include "simd/vector.h"

namespace pynn::PYNN_ISA {
namespace {

// Outputs of a tile of R rows: its sums and a vector of each output's weights must fit the
// registers, and there must be enough sums to hide the latency of an addition.
#if defined(__AVX512F__) || defined(__aarch64__)
template <int R>
constexpr int kTileOutputs = R <= 2 ? 8 : 5;
constexpr int kTileRows = 5;
constexpr int kTileVectors = 4;  // of four rows of the weight gradient
#else
template <int R>
constexpr int kTileOutputs = R == 1   ? 8
                             : R == 2 ? 4
                                      : 2;
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#endif
constexpr int kGroup = 16;                   // outputs whose sums are finished together
constexpr int kBand = 16;                    // of so many rows
constexpr std::int64_t kFarBytes = 4 << 20;  // weights that do not stay near from call to call

// How many lines ahead weights are fetched. What is near comes in time by itself, unless vectors
// lie across lines.
template <typename T>
std::int64_t lines_ahead(std::int64_t weights, const T* w) {
  if (weights * std::int64_t{sizeof(T)} > kFarBytes) return 16;
  return reinterpret_cast<std::uintptr_t>(w) % kVectorBytes ? 6 : 0;
}

PYNN_INLINE float multiply_add(float a, float b, float c) {
  return fma(broadcast(a), broadcast(b), broadcast(c))[0];
}
PYNN_INLINE double multiply_add(double a, double b, double c) {
  return fma(broadcast(a), broadcast(b), broadcast(c))[0];
}

// sums (R rows, kGroup outputs, lanes): the products of rows of x with rows of w, in as many parts
// as a vector has lanes. Of the outputs, `count` are there; the last stands for the others. Inputs
// are a vector or more. Weights are fetched `ahead` elements before they are needed; 0: they are
// not.
template <typename T, int R, int outputs>
void forward_tile(std::int64_t inputs, std::int64_t count, const T* x, const T* w,
                  std::int64_t ahead, T* sums) {
  constexpr int lanes = kLanes<T>;
  const T* rows[outputs];
#pragma GCC unroll 8
  for (int o = 0; o < outputs; ++o) rows[o] = w + (o < count ? o : count - 1) * inputs;
  Vector<T> sum[R][outputs] = {};
  // What `part` makes of the vector of each row at input k.
  const auto add = [&](std::int64_t k, const auto& part) {
    Vector<T> weight[outputs];
#pragma GCC unroll 8
    for (int o = 0; o < outputs; ++o) weight[o] = part(load(rows[o] + k));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = part(load(x + r * inputs + k));
#pragma GCC unroll 8
      for (int o = 0; o < outputs; ++o) sum[r][o] = fma(weight[o], value, sum[r][o]);
    }
  };
  std::int64_t k = 0;
  for (; k + lanes <= inputs; k += lanes) {
    if (ahead)
#pragma GCC unroll 8
      for (int o = 0; o < outputs; ++o) __builtin_prefetch(rows[o] + k + ahead);
    add(k, [](auto vector) { return vector; });
  }
  // The last vector reaches back; its first lanes have been used.
  if (k < inputs)
    add(inputs - lanes, [used = lanes - (inputs - k)](auto vector) {
      return first_lanes<T>(used, Vector<T>{}, vector);
    });
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int o = 0; o < outputs; ++o) store<T>(sums + (r * kGroup + o) * lanes, sum[r][o]);
}

template <typename T, int R, int outputs>
void forward_tiles(std::int64_t inputs, std::int64_t count, const T* x, const T* w,
                   std::int64_t ahead, bool backwards, T* sums) {
  const std::int64_t tiles = (count + outputs - 1) / outputs;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t o = (backwards ? tiles - 1 - i : i) * outputs;
    forward_tile<T, R, outputs>(inputs, count - o, x, w + o * inputs, ahead, sums + o * kLanes<T>);
  }
}

// Of a few rows, all outputs of a group, in as few tiles as possible.
template <typename T, int R = kTileRows>
void forward_group(std::int64_t rows, std::int64_t inputs, std::int64_t count, const T* x,
                   const T* w, std::int64_t ahead, bool backwards, T* sums) {
  if constexpr (R > 1) {
    if (rows < R) return forward_group<T, R - 1>(rows, inputs, count, x, w, ahead, backwards, sums);
  }
  constexpr int most = kTileOutputs<R>, fewer = most == 5 ? 4 : most;
  if ((count + most - 1) / most < (count + fewer - 1) / fewer)
    return forward_tiles<T, R, most>(inputs, count, x, w, ahead, backwards, sums);
  forward_tiles<T, R, fewer>(inputs, count, x, w, ahead, backwards, sums);
}

// Rows that are shorter than a vector, with zeros behind them.
template <typename T>
const T* widen(std::int64_t rows, std::int64_t inputs, const T* from, T* to) {
  constexpr int lanes = kLanes<T>;
  for (std::int64_t r = 0; r < rows; ++r) {
    store<T>(to + r * lanes, Vector<T>{});
    copy_run(inputs, from + r * inputs, to + r * lanes);
  }
  return to;
}

template <typename T>
void forward(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* x, const T* w,
             const T* b, bool relu, bool backwards, T* y) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t ahead = lines_ahead(s.inputs * s.outputs, w) * 64 / std::int64_t{sizeof(T)};
  const bool narrow = s.inputs < lanes;
  const std::int64_t inputs = narrow ? lanes : s.inputs;
  const std::int64_t groups = (end - begin + kGroup - 1) / kGroup;
  const Vector<T> zero = {};
  T sums[kBand * kGroup * lanes], wide_x[kBand * lanes], wide_w[kGroup * lanes], edge[lanes] = {};
  for (std::int64_t band = 0; band < s.rows; band += kBand) {
    const std::int64_t rows = s.rows - band < kBand ? s.rows - band : kBand;
    const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    const T* const x_band =
        narrow ? widen(rows, s.inputs, x + band * s.inputs, wide_x) : x + band * s.inputs;
    for (std::int64_t i = 0; i < groups; ++i) {
      const std::int64_t first = begin + (backwards ? groups - 1 - i : i) * kGroup;
      const std::int64_t count = end - first < kGroup ? end - first : kGroup;
      const T* const w_group =
          narrow ? widen(count, s.inputs, w + first * s.inputs, wide_w) : w + first * s.inputs;
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        const std::int64_t row = rows * tile / tiles;
        forward_group<T>(rows * (tile + 1) / tiles - row, inputs, count, x_band + row * inputs,
                         w_group, ahead, backwards, sums + row * kGroup * lanes);
      }
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t o = 0; o < count; o += lanes) {
          const std::int64_t part = count - o < lanes ? count - o : lanes;
          Vector<T> square[lanes];
#pragma GCC unroll 16
          for (int j = 0; j < lanes; ++j) square[j] = load(sums + (row * kGroup + o + j) * lanes);
          Vector<T> result = lane_sums(square);
          if (b) {
            copy_run(part, b + first + o, edge);
            result = result + load(edge);
          }
          if (relu) result = result < zero ? zero : result;
          store<T>(edge, result);
          copy_run(part, edge, y + (band + row) * s.outputs + first + o);
        }
    }
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

// What the elements of the weight gradient go to: the gradient, what is added to it, or the
// weights, which take a step.
enum class Write { gradient, sum, step };

template <typename T>
struct Writer {
  Write write;
  Vector<T> rate, decay;

  PYNN_INLINE Vector<T> operator()(const T* dw, typename VectorType<T>::type gradient) const {
    if (write == Write::gradient) return gradient;
    const Vector<T> before = load(dw);
    if (write == Write::sum) return before + gradient;
    return before - rate * (gradient + decay * before);
  }
};

// dw (R, V vectors), or where V is 0, as many elements as are `left`, less than a vector.
template <typename T, int R, int V>
PYNN_INLINE void weight_tile(const FewRowsShape& s, const T* dy, const T* x,
                             const Writer<T>& written, std::int64_t left, T* dw) {
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
        store<T>(to, written(to, sum[r][v]));
      } else {
        copy_run(left, to, edge);
        store<T>(edge, written(edge, sum[r][v]));
        copy_run(left, edge, to);
      }
    }
}

template <typename T, int R>
void weight_rows(const FewRowsShape& s, const T* dy, const T* x, const Writer<T>& written, T* dw) {
  constexpr int lanes = kLanes<T>, wide = kTileVectors;
  const Writer<T> local = written;
  std::int64_t i = 0;
  for (; i + wide * lanes <= s.inputs; i += wide * lanes)
    weight_tile<T, R, wide>(s, dy, x + i, local, 0, dw + i);
  for (; i + lanes <= s.inputs; i += lanes) weight_tile<T, R, 1>(s, dy, x + i, local, 0, dw + i);
  if (i < s.inputs) weight_tile<T, R, 0>(s, dy, x + i, local, s.inputs - i, dw + i);
}

template <typename T>
void backward_weight(const FewRowsShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                     const T* x, bool add, const GradientStep<T>* step, T* dw) {
  const Writer<T> written = {step  ? Write::step
                             : add ? Write::sum
                                   : Write::gradient,
                             broadcast(step ? step->rate : T(0)),
                             broadcast(step ? step->decay : T(0))};
  std::int64_t o = begin;
  for (; o + 4 <= end; o += 4) weight_rows<T, 4>(s, dy + o, x, written, dw + o * s.inputs);
  for (; o < end; ++o) weight_rows<T, 1>(s, dy + o, x, written, dw + o * s.inputs);
}

}  // namespace

void get(FewRowsKernels<float>& k) {
  k = {forward<float>, backward_input<float>, backward_weight<float>};
}
void get(FewRowsKernels<double>& k) {
  k = {forward<double>, backward_input<double>, backward_weight<double>};
}

}  // namespace pynn::PYNN_ISA
