#include "simd/outer_product.h"

#include "runtime/prefetch.h"
#include "simd/pack.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
constexpr int kVectorsPerColumn = static_cast<int>(kBlockLanes) / kLanes<T>;

// The most rows of a tile that is V vectors wide: its sums, a row of B and a value of A must fit
// the registers, and there must be enough sums to hide the latency of an addition.
template <int V>
constexpr int kMostRows =
#if defined(__AVX512F__) || defined(__aarch64__)
    V <= 2   ? 12
    : V == 3 ? 8
    : V == 4 ? 6
             : 2;
#else
    V == 1   ? 8
    : V == 2 ? 6
    : V == 3 ? 3
    : V == 4 ? 2
             : 1;
#endif
constexpr int kMostVectors = 8;

// How many vectors wide a tile of many rows is.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kUsualVectors = 4;
#else
constexpr int kUsualVectors = 2;
#endif

// What one tile needs. Its vectors lie at their own offsets from b and c.
template <typename T>
struct Tile {
  std::int64_t depth;
  const T* a;
  std::int64_t a_row, a_step;
  const std::int32_t* a_offsets;
  const T* b;
  const std::int32_t* b_offsets;
  const std::int64_t* b_vectors;
  T* c;
  std::int64_t c_row;
  const std::int64_t* c_vectors;
  const T* bias;
  const T* mask;
  bool accumulate, fetch_b;
  T floor;
  const GradientStep<T>* step;
};

// How a tile finds A and B for each k: by their offsets, or where these advance evenly, by steps.
enum class Walk {
  scattered,
  panels,        // scattered; A's rows side by side, and B is fetched
  apart,         // A by 1, its rows a_row apart; B by a column
  side_by_side,  // A by any step, its rows side by side; B by a column
};

constexpr int kUnrolled = 4;     // so many k at a time
constexpr int kAhead = 9;        // so many k before it is needed, B is fetched beside panels
constexpr int kAheadInRows = 4;  // and beside others

// Of how many rows and vectors, and of which elements, tiles of all walks are compiled.
template <typename T, int V>
constexpr bool kWalks = sizeof(T) == 4 && V <= 4 && kVectorBytes > 16;

template <typename T, int V>
constexpr bool kPanels = kWalks<T, V> && V + 1 >= kUsualVectors;

// A value that the compiler may not derive others from ahead of time.
template <typename Pointer>
PYNN_INLINE Pointer opaque(Pointer p) {
  asm("" : "+r"(p));
  return p;
}

// Additions to addresses take turns with multiply-adds: they are what bounds a tile. So rows share
// addresses, and where steps are known, so do several k.
template <typename T, int R, int V, Walk kWalk>
void tile(const Tile<T>& t) {
  Vector<T> sum[R][V];
  if (t.accumulate) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = load(t.c + r * t.c_row + t.c_vectors[v]);
  } else {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Vector<T> start = broadcast(t.bias ? t.bias[r] : T(0));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = start;
    }
  }
  const T* b[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) b[v] = t.b + t.b_vectors[v];
  // a(r) and b(v) give the value of row r and the address of vector v, for one k.
  const auto multiply = [&sum](const auto& a, const auto& b_at) {
    Vector<T> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = load(b_at(v));
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(a(r));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = fma(value, row[v], sum[r][v]);
    }
  };
  if constexpr (kWalk == Walk::scattered || kWalk == Walk::panels) {
    constexpr int kGroup = 3;
    const std::int64_t a_row = t.a_row, group = kGroup * a_row;
    std::int64_t k = 0;
    const auto one = [&] {
      const T* a = opaque(t.a + t.a_offsets[k]);
      const std::int64_t b_offset = t.b_offsets[k];
      multiply(
          [&](int r) {
            if (kWalk == Walk::panels) return a[r];
            if (r > 0 && r % kGroup == 0) a = opaque(a + group);
            return a[r % kGroup * a_row];
          },
          [&](int v) { return b[v] + b_offset; });
    };
    for (; kWalk == Walk::panels && k + kAhead < t.depth; ++k) {
      const std::int64_t ahead = t.b_offsets[k + kAhead];
      __builtin_prefetch(b[0] + ahead);  // vectors between the first and the last: other k's
      __builtin_prefetch(b[V - 1] + ahead);
      one();
    }
    const bool fetches = kWalk == Walk::scattered && V == kUsualVectors && t.fetch_b;
    for (; fetches && k + kAheadInRows < t.depth; ++k) {
      const std::int64_t ahead = t.b_offsets[k + kAheadInRows];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) __builtin_prefetch(b[v] + ahead);
      __builtin_prefetch(b[V - 1] + ahead + kLanes<T> - 1);
      one();
    }
    for (; k < t.depth; ++k) one();
  } else {
    const T* a = t.a + t.a_offsets[0];
    constexpr int kGroup = R <= 6 ? 1 : 4;
    const T* rows[(R + kGroup - 1) / kGroup];
#pragma GCC unroll 12
    for (int r = 0; r < R; r += kGroup) rows[r / kGroup] = opaque(a + r * t.a_row);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) b[v] = opaque(b[v] + t.b_offsets[0]);
    std::int64_t k = 0;
    const auto one = [&](int i) {
      const auto b_at = [&](int v) { return b[v] + i * kBlockLanes; };
      if constexpr (kWalk == Walk::apart) {
        multiply([&](int r) { return rows[r / kGroup][r % kGroup * t.a_row + k + i]; }, b_at);
      } else {
        multiply([&](int r) { return a[r]; }, b_at);
        __builtin_prefetch(a + 64 / sizeof(T));  // what the next tile needs
        a = opaque(a + t.a_step);
      }
    };
    for (; k + kUnrolled <= t.depth; k += kUnrolled) {
#pragma GCC unroll 4
      for (int i = 0; i < kUnrolled; ++i) one(i);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) b[v] += kUnrolled * kBlockLanes;
    }
    for (; k < t.depth; ++k) {
      one(0);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) b[v] += kBlockLanes;
    }
  }
  if (t.step) {
    const Vector<T> rate = broadcast(t.step->rate), decay = broadcast(t.step->decay);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        T* const c = t.c + r * t.c_row + t.c_vectors[v];
        const Vector<T> before = load(c);
        store<T>(c, before - rate * (sum[r][v] + decay * before));
      }
    return;
  }
  const Vector<T> floor = broadcast(t.floor), zero = {};
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Vector<T> result = sum[r][v] < floor ? floor : sum[r][v];
      if (t.mask) result = load(t.mask + r * t.c_row + t.c_vectors[v]) <= zero ? zero : result;
      store<T>(t.c + r * t.c_row + t.c_vectors[v], result);
    }
}

template <typename T>
using TileFunction = void (*)(const Tile<T>&);

template <typename T, int V, int R = kMostRows<V>>
TileFunction<T> find_rows(std::int64_t rows, Walk walk) {
  if (R == 1 || rows == R) {
    if constexpr (kWalks<T, V>) {
      if (walk == Walk::apart) return tile<T, R, V, Walk::apart>;
      if (walk == Walk::side_by_side) return tile<T, R, V, Walk::side_by_side>;
    }
    if constexpr (kPanels<T, V> && R <= kMostRows<kUsualVectors>) {
      if (walk == Walk::panels) return tile<T, R, V, Walk::panels>;
    }
    return tile<T, R, V, Walk::scattered>;
  }
  if constexpr (R > 1) return find_rows<T, V, R - 1>(rows, walk);
}

template <typename T, int V = kMostVectors>
TileFunction<T> find_tile(std::int64_t rows, std::int64_t vectors, Walk walk) {
  if constexpr (V == 1)
    return find_rows<T, 1>(rows, walk);
  else
    return vectors == V ? find_rows<T, V>(rows, walk) : find_tile<T, V - 1>(rows, vectors, walk);
}

// Vectors of a tile with this many rows.
std::int64_t tile_vectors(std::int64_t rows) {
  if (rows <= kMostRows<8>) return 8;
  if (rows <= kMostRows<4>) return 4;
  if (rows <= kMostRows<3>) return 3;
  if (rows <= kMostRows<2>) return 2;
  return kUsualVectors;
}

std::int64_t tile_rows(std::int64_t vectors) {
  switch (vectors) {
    case 1:
      return kMostRows<1>;
    case 2:
      return kMostRows<2>;
    case 3:
      return kMostRows<3>;
    case 4:
      return kMostRows<4>;
    default:
      return kMostRows<8>;
  }
}

template <typename T>
Walk find_walk(const OuterProduct<T>& p) {
  if (p.panel_rows > 1) return Walk::panels;
  if (!p.even || p.depth < 2 || p.b_offsets[1] - p.b_offsets[0] != kBlockLanes)
    return Walk::scattered;
  if (p.a_row == 1) return Walk::side_by_side;
  return p.a_offsets[1] - p.a_offsets[0] == 1 ? Walk::apart : Walk::scattered;
}

// Parts of about equal size, without a division for each.
struct Parts {
  std::int64_t size, longer;  // the first ones have one more
  Parts(std::int64_t whole, std::int64_t count) : size(whole / count), longer(whole % count) {}
  std::int64_t begin(std::int64_t i) const { return size * i + (i < longer ? i : longer); }
};

template <typename T>
void run(const OuterProduct<T>& p) {
  constexpr int per_column = kVectorsPerColumn<T>, lanes = kLanes<T>;
  if (p.rows <= 0 || p.columns <= 0) return;
  const std::int64_t vectors = (p.columns - 1) * per_column + (p.last_lanes + lanes - 1) / lanes;
  const std::int64_t partial = p.last_lanes % lanes;  // lanes of the last vector; 0: all
  const std::int64_t whole = vectors - (partial ? 1 : 0);
  const std::int64_t wanted = tile_vectors(p.rows);
  const std::int64_t tiles = (whole + wanted - 1) / wanted;
  const std::int64_t widest = tiles ? (whole + tiles - 1) / tiles : 1;
  const bool panels = p.panel_rows > 1;
  const std::int64_t most_rows = panels ? p.panel_rows : tile_rows(widest);
  const std::int64_t row_tiles = (p.rows + most_rows - 1) / most_rows;
  const Parts row_parts(p.rows, row_tiles), vector_parts(whole, tiles ? tiles : 1);
  T edge[2][kMostRows<1> * lanes];

  const auto row_of = [&](std::int64_t i) {
    if (!panels) return row_parts.begin(i);
    return i * most_rows < p.rows ? i * most_rows : p.rows;
  };
  const Walk walk = find_walk(p);
  // What a tile reads of C is fetched while the one before it is computed.
  const auto fetch = [&p](std::int64_t rows, const T* c, std::int64_t begin, std::int64_t end) {
    const std::int64_t last = (end + per_column - 1) / per_column;
    for (std::int64_t r = 0; r < rows; ++r, c += p.c_row)
      for (std::int64_t j = begin / per_column; j < last; ++j)
        prefetch_to_write(c + p.c_columns[j]);
  };

  std::int64_t k = 0;
  do {  // once even where depth is 0: C gets its start
    const std::int64_t depth = p.depth - k < p.depth_block ? p.depth - k : p.depth_block;
    const bool first = k == 0, last = k + depth == p.depth;
    Tile<T> t;
    t.depth = depth;
    t.a_row = panels ? 1 : p.a_row;
    t.a_step =
        walk == Walk::scattered || walk == Walk::panels ? 0 : p.a_offsets[1] - p.a_offsets[0];
    t.a_offsets = p.a_offsets + k;
    t.b = p.b;
    t.b_offsets = p.b_offsets + k;
    t.accumulate = p.accumulate || !first;
    t.fetch_b = p.fetch_b;
    t.step = p.step;
    t.floor = p.relu && last ? T(0) : -static_cast<T>(__builtin_inf());
    for (std::int64_t i = 0; i < row_tiles; ++i) {
      const std::int64_t row = row_of(i), rows = row_of(i + 1) - row;
      const std::int64_t next_rows = i + 1 < row_tiles ? row_of(i + 2) - row - rows : 0;
      t.a = p.a + (panels ? i * p.a_panel : row * p.a_row);
      t.bias = p.bias ? p.bias + row : nullptr;
      t.c = p.c + row * p.c_row;
      t.c_row = p.c_row;
      t.mask = p.mask && last ? p.mask + row * p.c_row : nullptr;
      TileFunction<T> function = nullptr;
      std::int64_t width = 0;
      for (std::int64_t j = 0; j < tiles; ++j) {
        const std::int64_t begin = vector_parts.begin(j), end = vector_parts.begin(j + 1);
        if (end - begin != width) {
          width = end - begin;
          function = find_tile<T>(rows, width, walk);
        }
        std::int64_t b_vectors[kMostVectors], c_vectors[kMostVectors];
        if (per_column == 1) {
          t.b_vectors = p.b_columns + begin;
          t.c_vectors = p.c_columns + begin;
        } else {
          for (std::int64_t v = begin; v < end; ++v) {
            b_vectors[v - begin] = p.b_columns[v / per_column] + v % per_column * lanes;
            c_vectors[v - begin] = p.c_columns[v / per_column] + v % per_column * lanes;
          }
          t.b_vectors = b_vectors;
          t.c_vectors = c_vectors;
        }
        if (t.step || t.accumulate) {
          if (j + 1 < tiles)
            fetch(rows, t.c, end, vector_parts.begin(j + 2));
          else
            fetch(next_rows, t.c + rows * p.c_row, 0, vector_parts.begin(1));
        }
        function(t);
      }
      if (partial) {  // C ends within the last vector: it is computed beside C
        const std::int64_t at = whole % per_column * lanes;
        const std::int64_t b_vector = p.b_columns[p.columns - 1] + at, c_vector = 0;
        T* const c = t.c + p.c_columns[p.columns - 1] + at;
        const T* const mask = t.mask ? t.mask + p.c_columns[p.columns - 1] + at : nullptr;
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t lane = 0; lane < lanes; ++lane) {
            const bool there = lane < partial;
            edge[0][r * lanes + lane] =
                there && (t.accumulate || t.step) ? c[r * p.c_row + lane] : T(0);
            edge[1][r * lanes + lane] = there && mask ? mask[r * p.c_row + lane] : T(0);
          }
        t.b_vectors = &b_vector;
        t.c_vectors = &c_vector;
        t.c = edge[0];
        t.c_row = lanes;
        t.mask = mask ? edge[1] : nullptr;
        find_rows<T, 1>(rows, walk)(t);
        for (std::int64_t r = 0; r < rows; ++r)
          copy_run(partial, edge[0] + r * lanes, c + r * p.c_row);
      }
    }
    k += depth;
  } while (k < p.depth);
}

template <typename T>
OuterProductKernels<T> kernels() {
  return {run<T>, pack<T>, kMostRows<kUsualVectors>,
          kUsualVectors / kVectorsPerColumn<T> > 0 ? kUsualVectors / kVectorsPerColumn<T> : 1};
}

}  // namespace

void get(OuterProductKernels<float>& k) { k = kernels<float>(); }
void get(OuterProductKernels<double>& k) { k = kernels<double>(); }

}  // namespace pynn::PYNN_ISA
