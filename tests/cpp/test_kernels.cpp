// Every kernel of every instruction set that this processor has.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel_runs.h"
#include "shapes/broadcast.h"
#include "shapes/window.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::test;  // NOLINT

const std::vector<std::int64_t> kSizes{0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 1025};

// `got` is within `terms` roundings of `expected`, where `magnitude` is the sum of the absolute
// values of what was added.
template <typename T>
bool close(T got, double expected, double terms, double magnitude) {
  return std::fabs(static_cast<double>(got) - expected) <= 2 * terms * kEps<T> * magnitude;
}

template <typename T, typename Forward, typename Backward>
void check_pointwise(const std::string& name, double tolerance, const Forward& forward,
                     const Backward& backward) {
  for (std::int64_t size : kSizes)
    check_kernel<T>(name, tolerance, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
      const T *x = arrays.input(size, -20, 20), *dy = arrays.input(size);
      T *y = arrays.output(size), *dx = arrays.output(size);
      arrays.ranges(size, [&](std::int64_t begin, std::int64_t end) {
        forward(k, end - begin, x + begin, y + begin);
      });
      arrays.ranges(size, [&](std::int64_t begin, std::int64_t end) {
        backward(k, end - begin, dy + begin, x + begin, y + begin, dx + begin);
      });
    });
}

Shape dense_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// --- matrix products

enum class Packed { kNothing, kA, kB };  // beforehand

// A product and what it should give.
template <typename T>
struct Product {
  std::int64_t M, N, K;
  bool a_transposed, b_transposed, b_padded;
  int start;         // 0 none, 1 rows, 2 columns, 3 what C holds
  std::int64_t gap;  // elements between the rows of A, B and C

  void run(const IsaTable<T>& k, Arrays<T>& arrays, Cut cut, Packed packed) const {
    const auto length = [](std::int64_t rows, std::int64_t columns, std::int64_t stride) {
      return rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns;
    };
    Gemm<T> g;
    g.M = M, g.N = N, g.K = K;
    g.a_row = a_transposed ? 1 : K + gap;
    g.a_column = a_transposed ? M + gap : 1;
    g.a = arrays.input(a_transposed ? length(K, M, M + gap) : length(M, K, K + gap));
    if (b_padded) {
      g.b_padded = true;
      g.b_row = (N + 127) / 128 * 128;
      g.b_column = 1;
      std::vector<T> values(static_cast<std::size_t>(K * g.b_row), T(NAN));
      for (std::int64_t i = 0; i < K * g.b_row; ++i)
        if (i % g.b_row < N) values[static_cast<std::size_t>(i)] = T(arrays.random());
      g.b = arrays.input(values);
    } else {
      g.b_row = b_transposed ? 1 : N + gap;
      g.b_column = b_transposed ? K + gap : 1;
      g.b = arrays.input(b_transposed ? length(N, K, K + gap) : length(K, N, N + gap));
    }
    g.row_start = start == 1 ? arrays.input(M) : nullptr;
    g.column_start = start == 2 ? arrays.input(N) : nullptr;
    g.accumulate = start == 3;
    g.c_row = N + gap;
    g.c = start == 3 ? arrays.updated(length(M, N, g.c_row)) : arrays.output(length(M, N, g.c_row));
    const std::vector<T> before(g.c, g.c + length(M, N, g.c_row));
    T* const scratch = arrays.scratch(kGemmScratch);

    const auto part_of = [&g](std::int64_t row, std::int64_t row_end, std::int64_t column,
                              std::int64_t column_end) {
      Gemm<T> part = g;
      part.M = row_end - row, part.N = column_end - column;
      part.a += row * g.a_row;
      part.b += column * g.b_column;
      part.c += row * g.c_row + column;
      part.b_padded = false;
      if (part.row_start) part.row_start += row;
      if (part.column_start) part.column_start += column;
      return part;
    };

    if (packed != Packed::kNothing) {  // the other matrix is cut
      const bool by_rows = packed == Packed::kB;
      T* const to = arrays.scratch(
          by_rows ? (N + kGemmColumnUnit - 1) / kGemmColumnUnit * kGemmColumnUnit * K + 1
                  : M * K + 64);
      (by_rows ? k.gemm.pack_b : k.gemm.pack_a)(g, to);
      arrays.ranges(by_rows ? M : N, [&](std::int64_t begin, std::int64_t end) {
        Gemm<T> part = by_rows ? part_of(begin, end, 0, N) : part_of(0, M, begin, end);
        (by_rows ? part.packed_b : part.packed_a) = to;
        k.gemm.run(part, scratch);
      });
    } else if (cut == Cut::kWhole) {
      k.gemm.run(g, scratch);
    } else {  // blocks of rows and columns, and terms in two runs
      const std::int64_t first_terms = cut == Cut::kUneven ? K : K / 3;
      arrays.ranges(M, [&](std::int64_t row, std::int64_t row_end) {
        arrays.ranges(N, [&](std::int64_t column, std::int64_t column_end) {
          Gemm<T> part = part_of(row, row_end, column, column_end);
          part.K = first_terms;
          k.gemm.run(part, scratch);
          part.a += first_terms * g.a_column;
          part.b += first_terms * g.b_row;
          part.K = K - first_terms;
          part.accumulate = true;
          if (first_terms < K) k.gemm.run(part, scratch);
        });
      });
    }

    for (std::int64_t i = 0; i < M; ++i) {
      for (std::int64_t j = 0; j < N; ++j) {
        double expected = start == 1   ? g.row_start[i]
                          : start == 2 ? g.column_start[j]
                          : start == 3 ? before[static_cast<std::size_t>(i * g.c_row + j)]
                                       : 0.0;
        double magnitude = std::fabs(expected);
        for (std::int64_t l = 0; l < K; ++l) {
          const double term = static_cast<double>(g.a[i * g.a_row + l * g.a_column]) *
                              static_cast<double>(g.b[l * g.b_row + j * g.b_column]);
          expected += term;
          magnitude += std::fabs(term);
        }
        CHECK(close(g.c[i * g.c_row + j], expected, static_cast<double>(K + 1), magnitude), "gemm",
              M, N, K, a_transposed, b_transposed, b_padded, start, "at", i, j,
              g.c[i * g.c_row + j], expected);
      }
      if (i + 1 < M && N > 0)
        for (std::int64_t j = N; j < g.c_row; ++j)
          CHECK(std::memcmp(g.c + i * g.c_row + j,
                            before.data() + static_cast<std::size_t>(i * g.c_row + j),
                            sizeof(T)) == 0,
                "gemm wrote between the rows of C", M, N, K);
    }
  }
};

template <typename T>
void check_product(const Product<T>& product) {
  for (const std::string& isa : available_isas()) {
    const IsaTables& tables = isa_tables(isa);
    const IsaTable<T>* kernels;
    if constexpr (sizeof(T) == 4)
      kernels = &tables.f32;
    else
      kernels = &tables.f64;
    std::vector<unsigned char> first;
    for (Packed packed : {Packed::kNothing, Packed::kA, Packed::kB})
      for (Cut cut : {Cut::kWhole, Cut::kUneven, Cut::kSingle}) {
        if (cut == Cut::kSingle && product.M * product.N > 400) continue;  // one element at a time
        for (Place place : {Place::kStart, Place::kEnd}) {
          Arrays<T> arrays(place, cut);
          product.run(*kernels, arrays, cut, packed);
          CHECK(arrays.slack_intact(), isa);
          if (first.empty()) first = arrays.bits();
          CHECK(arrays.bits() == first, "gemm", isa, product.M, product.N, product.K,
                static_cast<int>(cut), static_cast<int>(packed));
        }
      }
  }
}

}  // namespace

TEST(gemm) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    int turn = 0;
    for (std::int64_t M : {0, 1, 2, 5, 7, 12, 13, 25})
      for (std::int64_t N : {0, 1, 3, 8, 16, 17, 33, 70})
        for (std::int64_t K : {0, 1, 7, 8, 17, 40}) {
          ++turn;
          for (int transposed = 0; transposed < 4; ++transposed)
            check_product<T>({M, N, K, transposed % 2 == 1, transposed / 2 == 1, false,
                              (turn + transposed) % 4, turn % 3 == 0 ? 3 : 0});
          check_product<T>({M, N, K, false, false, true, turn % 4, 0});
        }
    // More than a block of columns, of terms, or of the wide tile of a single row.
    for (int transposed = 0; transposed < 4; ++transposed) {
      const bool a = transposed % 2 == 1, b = transposed / 2 == 1;
      check_product<T>({3, 530, 5, a, b, false, 1, 0});
      check_product<T>({13, 20, 530, a, b, false, 2, 0});
      check_product<T>({14, 533, 270, a, b, false, 2, 0});
      check_product<T>({1, 700, 300, a, b, false, 3, 0});
      check_product<T>({700, 1, 30, a, b, false, 1, 0});
    }
  });
}

// --- convolutions and pools

namespace {

struct ConvCase {
  Shape x, w;
  Pair stride{1, 1};
  Padding padding{};
  Pair dilation{1, 1};
  std::int64_t groups = 1;
};

const Padding kSame{Padding::Kind::same, {}}, kFull{Padding::Kind::full, {}};
Padding sides(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
  return {Padding::Kind::sides, {top, bottom, left, right}};
}

const std::vector<ConvCase> kConvolutions{
    {{1, 1, 1, 1}, {1, 1, 1, 1}},
    {{0, 2, 5, 5}, {3, 2, 3, 3}},
    {{2, 3, 7, 5}, {4, 3, 3, 2}, {2, 2}, sides(1, 1, 1, 1)},
    {{1, 2, 6, 6}, {3, 2, 3, 3}, {2, 2}},
    {{17, 4, 5, 6}, {7, 4, 3, 3}, {1, 1}, kSame},
    {{3, 2, 4, 9}, {2, 2, 3, 3}, {1, 1}, kFull, {2, 3}},
    {{2, 4, 6, 7}, {6, 2, 3, 2}, {3, 1}, sides(2, 0, 0, 3), {1, 2}, 2},
    {{3, 5, 9, 9}, {5, 1, 3, 3}, {1, 1}, kSame, {1, 1}, 5},
    {{2, 6, 8, 3}, {9, 6, 1, 1}},                              // the image is the column matrix
    {{2, 6, 8, 3}, {9, 6, 1, 1}, {2, 2}},                      // and here it is not
    {{2, 3, 4, 17}, {2, 3, 1, 16}},                            // runs of one vector and of two
    {{1, 2, 3, 40}, {3, 2, 2, 7}, {1, 1}, sides(4, 4, 9, 9)},  // positions that see padding alone
    {{2, 33, 5, 5}, {3, 33, 3, 3}, {1, 1}, kSame},  // more rows than a block of the column matrix
    {{1, 1, 30, 40}, {2, 1, 3, 3}, {1, 1}, kSame},  // more positions than a block
    {{40, 2, 3, 3}, {3, 2, 2, 2}},                  // many samples in a block
    {{2, 3, 40, 170}, {3, 1, 5, 5}, {1, 1}, kSame, {1, 1}, 3},  // depthwise: several strips
    {{3, 2, 5, 20}, {2, 1, 2, 4}, {1, 1}, kFull, {1, 1}, 2},
    {{2, 2, 9, 16}, {2, 1, 3, 3}, {1, 1}, sides(0, 2, 1, 0), {1, 1}, 2},
    {{2, 3, 7, 6}, {3, 1, 3, 3}, {2, 2}, kSame, {1, 1}, 3},
    {{2, 0, 4, 4}, {3, 0, 2, 2}},
    {{2, 3, 4, 4}, {0, 3, 2, 2}},
};

// Calls visit(index in x, in w, in y) for each term of a convolution, in any order.
template <typename Visit>
void each_term(const Conv2dShape& s, const Visit& visit) {
  const Window& w = s.window;
  const std::int64_t channels = s.C / s.groups, outputs = s.O / s.groups;
  for (std::int64_t n = 0; n < s.N; ++n)
    for (std::int64_t o = 0; o < s.O; ++o)
      for (std::int64_t oh = 0; oh < w.OH; ++oh)
        for (std::int64_t ow = 0; ow < w.OW; ++ow)
          for (std::int64_t c = 0; c < channels; ++c)
            for (std::int64_t kh = 0; kh < w.KH; ++kh)
              for (std::int64_t kw = 0; kw < w.KW; ++kw) {
                const std::int64_t h = oh * w.stride_h - w.top + kh * w.dilation_h;
                const std::int64_t v = ow * w.stride_w - w.left + kw * w.dilation_w;
                if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
                visit(((n * s.C + o / outputs * channels + c) * w.H + h) * w.W + v,
                      ((o * channels + c) * w.KH + kh) * w.KW + kw,
                      ((n * s.O + o) * w.OH + oh) * w.OW + ow);
              }
}

struct Sum {
  double value = 0, magnitude = 0, terms = 1;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
    terms += 1;
  }
};

template <typename T>
void check_sums(const char* name, const std::vector<Sum>& sums, const T* got) {
  for (std::size_t i = 0; i < sums.size(); ++i)
    CHECK(close(got[i], sums[i].value, sums[i].terms, sums[i].magnitude), name, i, got[i],
          sums[i].value);
}

template <typename T>
void check_convolution(const ConvCase& c) {
  const Conv2dShape s =
      conv2d_shape(c.x, c.w, std::nullopt, c.stride, c.padding, c.dilation, c.groups);
  const std::int64_t x_size = element_count(c.x), w_size = element_count(c.w),
                     y_size = element_count(output_shape(s));
  const auto check = [&](const IsaTable<T>& k, Arrays<T>& arrays) {
    const auto& conv = k.conv2d;
    const Conv2dUnits units = conv.units(s);
    const T *x = arrays.input(x_size), *w = arrays.input(w_size), *b = arrays.input(s.O),
            *dy = arrays.input(y_size);
    T *y = arrays.output(y_size), *y_unbiased = arrays.output(y_size), *dx = arrays.output(x_size),
      *shards = arrays.output(units.shards * w_size), *dw = arrays.output(w_size),
      *db = arrays.output(s.O), *scratch = arrays.scratch(units.scratch);
    arrays.ranges(units.forward, [&](std::int64_t begin, std::int64_t end) {
      conv.forward(s, begin, end, x, w, b, y, scratch);
      conv.forward(s, begin, end, x, w, nullptr, y_unbiased, scratch);
    });
    arrays.ranges(units.backward_input, [&](std::int64_t begin, std::int64_t end) {
      conv.backward_input(s, begin, end, dy, w, dx, scratch);
    });
    arrays.ranges(units.backward_weight, [&](std::int64_t begin, std::int64_t end) {
      conv.backward_weight(s, begin, end, dy, x, shards, scratch);
    });
    if (units.shards > 0)
      arrays.ranges(w_size, [&](std::int64_t begin, std::int64_t end) {
        conv.combine(units.shards, w_size, begin, end, shards, dw);
      });
    arrays.ranges(s.O, [&](std::int64_t begin, std::int64_t end) {
      conv.backward_bias(s, begin, end, dy, db);
    });

    std::vector<Sum> y_sums(static_cast<std::size_t>(y_size)),
        unbiased = y_sums, dx_sums(static_cast<std::size_t>(x_size)),
        dw_sums(static_cast<std::size_t>(w_size)), db_sums(static_cast<std::size_t>(s.O));
    const std::int64_t positions = s.window.OH * s.window.OW;
    for (std::int64_t i = 0; i < y_size; ++i) {
      const std::int64_t o = i / positions % s.O;
      y_sums[static_cast<std::size_t>(i)].add(b[o]);
      db_sums[static_cast<std::size_t>(o)].add(dy[i]);
    }
    each_term(s, [&](std::int64_t at_x, std::int64_t at_w, std::int64_t at_y) {
      const double x_value = x[at_x], w_value = w[at_w], dy_value = dy[at_y];
      y_sums[static_cast<std::size_t>(at_y)].add(x_value * w_value);
      unbiased[static_cast<std::size_t>(at_y)].add(x_value * w_value);
      dx_sums[static_cast<std::size_t>(at_x)].add(dy_value * w_value);
      dw_sums[static_cast<std::size_t>(at_w)].add(dy_value * x_value);
    });
    check_sums("y", y_sums, y);
    check_sums("y without bias", unbiased, y_unbiased);
    check_sums("dx", dx_sums, dx);
    if (units.shards > 0) check_sums("dw", dw_sums, dw);
    check_sums("db", db_sums, db);
  };
  check_kernel<T>("conv2d of " + to_string(c.x) + " and " + to_string(c.w), 1000, check);
}

struct PoolCase {
  Shape x;
  Pair kernel, stride;
  Padding padding{};
  bool ceil_mode = false;
};

const std::vector<PoolCase> kPools{
    {{0, 2, 4, 4}, {2, 2}, {2, 2}},
    {{1, 1, 1, 1}, {1, 1}, {1, 1}},
    {{2, 3, 8, 6}, {2, 2}, {2, 2}},
    {{2, 2, 6, 70}, {2, 2}, {2, 2}},
    {{1, 3, 5, 35}, {2, 2}, {2, 2}},
    {{2, 3, 7, 9}, {3, 3}, {2, 2}},
    {{1, 5, 7, 9}, {3, 3}, {2, 2}, sides(1, 1, 1, 1), true},
    {{3, 2, 5, 11}, {2, 3}, {1, 2}, sides(1, 0, 2, 1)},
    {{2, 2, 17, 33}, {4, 2}, {3, 1}, kSame},
    {{2, 2, 5, 5}, {2, 2}, {3, 3}, sides(0, 1, 0, 1), true},
};

}  // namespace

TEST(conv2d) {
  for_each_type([](auto zero) {
    for (const ConvCase& c : kConvolutions) check_convolution<decltype(zero)>(c);
  });
}

TEST(max_pool2d) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (const PoolCase& c : kPools) {
      const Window w = pool2d_window(c.x, c.kernel, c.stride, c.padding, c.ceil_mode);
      const std::int64_t planes = c.x[0] * c.x[1], pixels = w.H * w.W, positions = w.OH * w.OW;
      check_kernel<T>("max_pool2d of " + to_string(c.x), 0, [&](const auto& k, Arrays<T>& arrays) {
        const T *x = arrays.input(planes * pixels), *dy = arrays.input(planes * positions);
        T *y = arrays.output(planes * positions), *dx = arrays.output(planes * pixels);
        T *y_coded = arrays.output(planes * positions), *dx_coded = arrays.output(planes * pixels),
          *dx_added = arrays.updated(planes * pixels);
        const std::vector<T> before(dx_added, dx_added + planes * pixels);
        auto* argmax = arrays.template output<std::int64_t>(planes * positions);
        auto* codes = arrays.template output<std::uint8_t>(planes * positions);
        arrays.ranges(planes, [&](std::int64_t begin, std::int64_t end) {
          k.max_pool2d.forward(w, begin, end, x, y, argmax);
          CHECK(k.max_pool2d.backward(pixels, positions, begin, end, dy, argmax, dx));
          k.max_pool2d.forward_codes(w, begin, end, x, y_coded, nullptr);
          k.max_pool2d.forward_codes(w, begin, end, x, y_coded, codes);
          k.max_pool2d.backward_codes(w, begin, end, dy, codes, false, dx_coded);
          k.max_pool2d.backward_codes(w, begin, end, dy, codes, true, dx_added);
        });
        for (std::int64_t i = 0; i < planes * positions; ++i)
          CHECK(y_coded[i] == y[i], i, y_coded[i], y[i]);
        for (std::int64_t i = 0; i < planes * pixels; ++i) {
          CHECK(dx_coded[i] == dx[i], i, dx_coded[i], dx[i]);
          const double sum =
              static_cast<double>(before[static_cast<std::size_t>(i)]) + static_cast<double>(dx[i]);
          CHECK(std::fabs(static_cast<double>(dx_added[i]) - sum) <= 16 * kEps<T>, i);
        }
        std::vector<double> expected(static_cast<std::size_t>(planes * pixels));
        for (std::int64_t i = 0; i < planes * positions; ++i) {
          const std::int64_t oh = i % positions / w.OW, ow = i % w.OW, plane = i / positions;
          double best = -INFINITY;
          for (std::int64_t kh = 0; kh < w.KH; ++kh)
            for (std::int64_t kw = 0; kw < w.KW; ++kw) {
              const std::int64_t h = oh * w.stride_h - w.top + kh,
                                 v = ow * w.stride_w - w.left + kw;
              if (h >= 0 && h < w.H && v >= 0 && v < w.W)
                best = std::max(best, static_cast<double>(x[(plane * w.H + h) * w.W + v]));
            }
          CHECK(y[i] == best && x[plane * pixels + argmax[i]] == best, i, y[i], best);
        }
      });
    }
    const std::vector<std::int64_t> outside{4, -1, 0};
    check_kernel<T>("max_pool2d of a wrong argmax", 0, [&](const auto& k, Arrays<T>& arrays) {
      const T* dy = arrays.input(3);
      const std::int64_t* argmax = arrays.input(outside);
      T* dx = arrays.output(4);
      CHECK(!k.max_pool2d.backward(4, 3, 0, 1, dy, argmax, dx));
      CHECK(dx[0] == dy[2] && dx[3] == 0);
    });
  });
}

TEST(max_pool2d_of_blocks) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    constexpr std::int64_t kLanes = 16;
    for (const PoolCase& c : kPools)
      for (bool of_relu : {false, true}) {
        const Window w = pool2d_window(c.x, c.kernel, c.stride, c.padding, c.ceil_mode);
        const std::int64_t pixels = w.H * w.W * kLanes, positions = w.OH * w.OW * kLanes;
        check_kernel<T>("max_pool2d of blocks", 0, [&](const auto& k, Arrays<T>& arrays) {
          const T *x = arrays.input(pixels), *dy = arrays.input(positions);
          T *y = arrays.output(positions), *y_alone = arrays.output(positions),
            *dx = arrays.output(pixels), *dx_added = arrays.updated(pixels);
          std::vector<T> sums(dx_added, dx_added + pixels);
          auto* codes = arrays.template output<std::uint8_t>(positions);
          const std::int64_t x_row = w.W * kLanes, y_row = w.OW * kLanes;
          k.max_pool2d.forward_block(w, x, x_row, y_alone, y_row, of_relu, nullptr);
          k.max_pool2d.forward_block(w, x, x_row, y, y_row, of_relu, codes);
          k.max_pool2d.backward_block(w, dy, codes, false, dx);
          k.max_pool2d.backward_block(w, dy, codes, true, dx_added);
          std::vector<T> gradients(static_cast<std::size_t>(pixels));
          for (std::int64_t i = 0; i < positions; ++i) {
            const std::int64_t oh = i / y_row, ow = i % y_row / kLanes;
            T best = -INFINITY;
            std::int64_t first = 0, code = 0;
            for (std::int64_t kernel = 0; kernel < w.KH * w.KW; ++kernel) {
              const std::int64_t h = oh * w.stride_h - w.top + kernel / w.KW,
                                 v = ow * w.stride_w - w.left + kernel % w.KW;
              if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
              const std::int64_t at = h * x_row + v * kLanes + i % kLanes;
              if (x[at] > best) best = x[at], first = at, code = kernel;
            }
            CHECK(y[i] == best && y_alone[i] == best, i, y[i], best);
            const bool passes = !of_relu || best > 0;
            CHECK(codes[i] == (passes ? code : kNoPixel), i, int(codes[i]), code);
            if (!passes) continue;
            gradients[static_cast<std::size_t>(first)] += dy[i];
            sums[static_cast<std::size_t>(first)] += dy[i];
          }
          for (std::int64_t i = 0; i < pixels; ++i) {
            CHECK(dx[i] == gradients[static_cast<std::size_t>(i)], i);
            CHECK(dx_added[i] == sums[static_cast<std::size_t>(i)], i);
          }
        });
      }
  });
}

TEST(avg_pool2d) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (const PoolCase& c : kPools)
      for (bool count_include_pad : {false, true}) {
        const Window w = pool2d_window(c.x, c.kernel, c.stride, c.padding, c.ceil_mode);
        const std::int64_t planes = c.x[0] * c.x[1], pixels = w.H * w.W, positions = w.OH * w.OW;
        check_kernel<T>(
            "avg_pool2d of " + to_string(c.x), 4, [&](const auto& k, Arrays<T>& arrays) {
              const T *x = arrays.input(planes * pixels), *dy = arrays.input(planes * positions),
                      *dy_global = arrays.input(planes);
              T *y = arrays.output(planes * positions), *dx = arrays.output(planes * pixels),
                *y_global = arrays.output(planes), *dx_global = arrays.output(planes * pixels);
              arrays.ranges(planes, [&](std::int64_t begin, std::int64_t end) {
                k.avg_pool2d.forward(w, count_include_pad, begin, end, x, y);
                k.avg_pool2d.backward(w, count_include_pad, begin, end, dy, dx);
                k.avg_pool2d.global_forward(pixels, begin, end, x, y_global);
                k.avg_pool2d.global_backward(pixels, begin, end, dy_global, dx_global);
              });
              double through_windows = 0, given = 0, magnitude = 1;  // sum dx x = sum dy y
              for (std::int64_t i = 0; i < planes * pixels; ++i)
                through_windows += static_cast<double>(dx[i]) * static_cast<double>(x[i]);
              for (std::int64_t i = 0; i < planes * positions; ++i) {
                given += static_cast<double>(dy[i]) * static_cast<double>(y[i]);
                magnitude += std::fabs(static_cast<double>(dy[i]));
              }
              CHECK(std::fabs(through_windows - given) <= 16 * kEps<T> * magnitude, through_windows,
                    given);
            });
      }
  });
}

// --- pointwise

TEST(activations) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    check_pointwise<T>(
        "relu", 0, [](const auto& k, auto size, auto* x, auto* y) { k.relu.forward(size, x, y); },
        [](const auto& k, auto size, auto* dy, auto*, auto* y, auto* dx) {
          k.relu.backward(size, dy, y, dx);
        });
    check_pointwise<T>(
        "leaky_relu", 0,
        [](const auto& k, auto size, auto* x, auto* y) {
          k.leaky_relu.forward(size, x, y, T(0.1));
        },
        [](const auto& k, auto size, auto* dy, auto* x, auto*, auto* dx) {
          k.leaky_relu.backward(size, dy, x, dx, T(0.1));
        });
    check_pointwise<T>(
        "tanh", 8, [](const auto& k, auto size, auto* x, auto* y) { k.tanh.forward(size, x, y); },
        [](const auto& k, auto size, auto* dy, auto*, auto* y, auto* dx) {
          k.tanh.backward(size, dy, y, dx);
        });
    check_pointwise<T>(
        "sigmoid", 8,
        [](const auto& k, auto size, auto* x, auto* y) { k.sigmoid.forward(size, x, y); },
        [](const auto& k, auto size, auto* dy, auto*, auto* y, auto* dx) {
          k.sigmoid.backward(size, dy, y, dx);
        });
  });
}

TEST(add_and_mul) {
  struct Case {
    Shape a, b;
  };
  const std::vector<Case> cases{
      {{0}, {1}},
      {{1}, {1}},
      {{7}, {7}},
      {{65}, {1}},
      {{}, {}},
      {{3, 1}, {5}},
      {{4, 3, 5}, {3, 1}},
      {{2, 1, 3, 1}, {4, 1, 17}},
      {{33, 300}, {300}},
      {{33, 300}, {33, 1}},
      {{1, 17}, {17, 1}},
      {{2, 0, 3}, {1, 3}},
      {{2, 3, 4, 5}, {1}},
      {{5, 2, 1, 3, 1, 2}, {1, 2, 7, 1, 4, 1}},
  };
  for_each_type([&](auto zero) {
    using T = decltype(zero);
    for (const Case& c : cases) {
      const Shape shape = broadcast_shape(c.a, c.b);
      const std::int64_t size = element_count(shape), a_size = element_count(c.a),
                         b_size = element_count(c.b);
      const BroadcastShape walk = broadcast_walk(c.a, c.b);
      const ReductionShape to_a = reduction_walk(shape, c.a, c.b);
      check_kernel<T>(
          to_string(c.a) + " and " + to_string(c.b), 0, [&](const auto& k, Arrays<T>& arrays) {
            const T *a = arrays.input(a_size), *b = arrays.input(b_size), *dy = arrays.input(size);
            T *sum = arrays.output(size), *product = arrays.output(size),
              *da_sum = arrays.output(a_size), *da_product = arrays.output(a_size);
            arrays.ranges(size ? walk.rows() : 0, [&](std::int64_t begin, std::int64_t end) {
              k.add.forward(walk, begin, end, a, b, sum);
              k.mul.forward(walk, begin, end, a, b, product);
            });
            arrays.ranges(to_a.outputs(), [&](std::int64_t begin, std::int64_t end) {
              k.add.backward(to_a, begin, end, dy, da_sum);
              k.mul.backward(to_a, begin, end, dy, b, da_product);
            });
            std::vector<Sum> sums(static_cast<std::size_t>(a_size)), products = sums;
            const Shape strides = dense_strides(shape), a_strides = dense_strides(c.a),
                        b_strides = dense_strides(c.b);
            for (std::int64_t i = 0; i < size; ++i) {
              std::int64_t at_a = 0, at_b = 0;
              for (std::size_t axis = 0; axis < shape.size(); ++axis) {
                const std::int64_t index = i / strides[axis] % shape[axis];
                const std::size_t from_end = shape.size() - axis;
                if (from_end <= c.a.size() && c.a[c.a.size() - from_end] > 1)
                  at_a += index * a_strides[c.a.size() - from_end];
                if (from_end <= c.b.size() && c.b[c.b.size() - from_end] > 1)
                  at_b += index * b_strides[c.b.size() - from_end];
              }
              CHECK(sum[i] == a[at_a] + b[at_b] && product[i] == a[at_a] * b[at_b], i);
              sums[static_cast<std::size_t>(at_a)].add(dy[i]);
              products[static_cast<std::size_t>(at_a)].add(static_cast<double>(dy[i]) *
                                                           static_cast<double>(b[at_b]));
            }
            check_sums("da of add", sums, da_sum);
            check_sums("da of mul", products, da_product);
          });
    }
  });
}

TEST(bias) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t rows : {0, 1, 5})
      for (std::int64_t columns : kSizes)
        check_kernel<T>("bias", 1, [&](const auto& k, Arrays<T>& arrays) {
          const T *x = arrays.input(rows * columns), *b = arrays.input(columns);
          T *y = arrays.output(rows * columns), *db = arrays.output(columns);
          arrays.ranges(rows, [&](std::int64_t begin, std::int64_t end) {
            k.bias.forward(end - begin, columns, x + begin * columns, b, y + begin * columns);
          });
          arrays.ranges(columns, [&](std::int64_t begin, std::int64_t end) {
            k.bias.backward(rows, columns, begin, end, x, db);
          });
        });
  });
}

// --- along an axis

TEST(softmax_and_log_softmax) {
  const std::vector<SoftmaxShape> shapes{
      {0, 3, 1},   {2, 0, 1},   {2, 0, 3},   {1, 1, 1},    {2, 7, 1},    {500, 10, 1},
      {3, 63, 1},  {3, 64, 1},  {2, 65, 1},  {2, 1000, 1}, {1, 5000, 1}, {2, 5, 3},
      {3, 10, 17}, {1, 3, 300}, {2, 2, 257}, {7, 1, 5},
  };
  for_each_type([&](auto zero) {
    using T = decltype(zero);
    for (const SoftmaxShape& s : shapes)
      check_kernel<T>("softmax " + to_string({s.outer, s.axis, s.inner}), 32,
                      [&](const auto& k, Arrays<T>& arrays) {
                        const std::int64_t size = s.outer * s.axis * s.inner;
                        const T *x = arrays.input(size, -9, 9), *dy = arrays.input(size);
                        T *y = arrays.output(size), *dx = arrays.output(size),
                          *log_y = arrays.output(size), *dx_log = arrays.output(size);
                        const auto forward = [&](std::int64_t begin, std::int64_t end) {
                          k.softmax.forward(s, begin, end, x, y);
                          k.log_softmax.forward(s, begin, end, x, log_y);
                          k.softmax.backward(s, begin, end, dy, y, dx);
                          k.log_softmax.backward(s, begin, end, dy, log_y, dx_log);
                        };
                        forward(0, 0);
                        arrays.ranges(s.lines(), forward);
                        for (std::int64_t line = 0; line < s.lines(); ++line) {
                          const std::int64_t first =
                              line / s.inner * s.axis * s.inner + line % s.inner;
                          double sum = 0;
                          for (std::int64_t j = 0; j < s.axis; ++j)
                            sum += std::exp(static_cast<double>(x[first + j * s.inner]));
                          for (std::int64_t j = 0; j < s.axis; ++j) {
                            const std::int64_t at = first + j * s.inner;
                            const double expected = x[at] - std::log(sum);
                            CHECK(close(log_y[at], expected, 40, 1 + std::fabs(expected)), at,
                                  log_y[at], expected);
                            CHECK(close(y[at], std::exp(expected), 40, std::exp(expected)), at,
                                  y[at], std::exp(expected));
                          }
                        }
                      });
  });
}

TEST(cross_entropy) {
  struct Case {
    std::int64_t N, C, inner;
  };
  const std::vector<Case> cases{
      {0, 3, 1},
      {1, 1, 1},
      {5, 10, 1},
      {16, 10, 1},
      {17, 10, 1},
      {33, 63, 1},
      {17, 64, 1},
      {3, 130, 1},
      {2, 3, 5},
      {3, 5, 16},
      {2, 4, 33},
      {4, 70, 3},
      {15, 2, 7},  // the last bundle has nine positions of two
                   // samples: 2 x 7 apart, as sixteen in one
      {1, 7, 40},
      {40, 1, 3},
      {2, 5, 150},
      {70, 10, 1},
  };
  for_each_type([&](auto zero) {
    using T = decltype(zero);
    for (const Case& c : cases)
      for (int variant = 0; variant < 16; ++variant) {
        const bool soft = variant & 1, weighted = variant & 2, smooth = variant & 4,
                   ignoring = variant & 8 && !soft;
        const std::int64_t positions = c.N * c.inner, size = positions * c.C;
        check_kernel<T>(
            "cross_entropy " + to_string({c.N, c.C, c.inner}) + " " + std::to_string(variant), 64,
            [&](const auto& k, Arrays<T>& arrays) {
              std::vector<std::int64_t> labels(static_cast<std::size_t>(positions));
              for (std::int64_t& label : labels)
                label = static_cast<std::int64_t>(arrays.random(0, static_cast<double>(c.C)));
              CrossEntropyTask<T> task{};
              task.positions = positions, task.C = c.C, task.inner = c.inner;
              task.logits = arrays.input(size, -4, 4);
              task.labels = soft ? nullptr : arrays.input(labels);
              task.probabilities = soft ? arrays.input(size, 0, 1) : nullptr;
              task.weight = weighted ? arrays.input(c.C, 0.5, 2) : nullptr;
              task.ignored_label = ignoring ? 0 : -1;
              task.smoothing = smooth ? T(0.1) : T(0);
              task.gradient_scale = T(0.5);
              task.loss = arrays.output(positions);
              task.gradient = arrays.output(size);
              T* const workspace = arrays.scratch(task.workspace());
              const auto run = [&](std::int64_t begin, std::int64_t end) {
                k.cross_entropy.run(task, begin, end, workspace);
              };
              arrays.ranges(positions, run);
              CrossEntropyTask<T> loss_alone = task;
              loss_alone.gradient = nullptr;
              loss_alone.loss = arrays.output(positions);
              k.cross_entropy.run(loss_alone, 0, positions, workspace);
              for (std::int64_t p = 0; p < positions; ++p) {
                const std::int64_t first = p / c.inner * c.C * c.inner + p % c.inner;
                const std::int64_t label = soft ? -1 : labels[static_cast<std::size_t>(p)];
                double sum = 0, mass = 0, product = 0;
                std::vector<double> target(static_cast<std::size_t>(c.C));
                for (std::int64_t j = 0; j < c.C; ++j) {
                  const std::int64_t at = first + j * c.inner;
                  const double smoothing = task.smoothing,
                               hard = soft ? static_cast<double>(task.probabilities[at])
                                           : static_cast<double>(j == label);
                  double& t = target[static_cast<std::size_t>(j)];
                  t = (hard * (1 - smoothing) + smoothing / static_cast<double>(c.C)) *
                      (weighted ? static_cast<double>(task.weight[j]) : 1.0);
                  if (ignoring && label == 0) t = 0;
                  sum += std::exp(static_cast<double>(task.logits[at]));
                  mass += t;
                  product += t * static_cast<double>(task.logits[at]);
                }
                const double loss = mass * std::log(sum) - product;
                const double terms = static_cast<double>(c.C) + 40, magnitude = mass * 20 + 1e-30;
                CHECK(close(task.loss[p], loss, terms, magnitude), p, task.loss[p], loss);
                CHECK(close(loss_alone.loss[p], loss, terms, magnitude), p, loss_alone.loss[p]);
                for (std::int64_t j = 0; j < c.C; ++j) {
                  const std::int64_t at = first + j * c.inner;
                  const double gradient =
                      0.5 * (mass * std::exp(static_cast<double>(task.logits[at])) / sum -
                             target[static_cast<std::size_t>(j)]);
                  CHECK(close(task.gradient[at], gradient, terms, mass + 1e-30), at,
                        task.gradient[at], gradient);
                }
              }
            });
      }
  });
}

TEST(mse_loss) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t size : kSizes)
      check_kernel<T>("mse_loss", 4, [&](const auto& k, Arrays<T>& arrays) {
        const T *prediction = arrays.input(size), *target = arrays.input(size);
        T *gradient = arrays.output(size), *loss = arrays.output(size);
        arrays.number(k.mse_loss.sum(size, prediction, target, T(0.3), gradient));
        arrays.number(k.mse_loss.sum(size, prediction, target, T(0.3), nullptr));
        arrays.ranges(size, [&](std::int64_t begin, std::int64_t end) {
          k.mse_loss.each(end - begin, prediction + begin, target + begin, loss + begin);
        });
      });
  });
}

// --- normalisation and noise

TEST(batch_norm) {
  const std::vector<BatchNormShape> shapes{{2, 1, 1},   {5, 3, 1},  {3, 65, 1},  {2, 3, 4},
                                           {2, 65, 16}, {3, 5, 17}, {2, 64, 49}, {1, 2, 2},
                                           {3, 130, 5}, {0, 3, 4},  {2, 3, 0},   {2, 0, 5}};
  for_each_type([&](auto zero) {
    using T = decltype(zero);
    for (const BatchNormShape& s : shapes)
      for (bool affine : {false, true})
        check_kernel<T>(
            "batch_norm " + to_string({s.N, s.C, s.inner}), 200,
            [&](const auto& k, Arrays<T>& arrays) {
              const std::int64_t size = s.N * s.C * s.inner;
              const T *x = arrays.input(size), *dy = arrays.input(size),
                      *weight = affine ? arrays.input(s.C) : nullptr,
                      *bias = affine ? arrays.input(s.C) : nullptr;
              T *mean = arrays.updated(s.C), *var = arrays.updated(s.C, 0, 1),
                *y = arrays.output(size), *dx = arrays.output(size),
                *dx_fixed = arrays.output(size), *dweight = arrays.output(s.C),
                *dbias = arrays.output(s.C);
              arrays.ranges(s.C, [&](std::int64_t begin, std::int64_t end) {
                if (s.count() > 0) k.batch_norm.statistics(s, begin, end, x, mean, var);
                k.batch_norm.forward(s, begin, end, x, mean, var, weight, bias, 0.01, y);
                k.batch_norm.backward(s, begin, end, dy, x, mean, var, weight, true, 0.01, dx,
                                      dweight, dbias);
                k.batch_norm.backward(s, begin, end, dy, x, mean, var, weight, false, 0.01,
                                      dx_fixed, nullptr, nullptr);
              });
              for (std::int64_t c = 0; c < s.C && s.count() > 0; ++c) {
                double sum = 0, squares = 0;
                const auto each = [&](const auto& visit) {
                  for (std::int64_t n = 0; n < s.N; ++n)
                    for (std::int64_t i = 0; i < s.inner; ++i) visit((n * s.C + c) * s.inner + i);
                };
                const auto count = static_cast<double>(s.count());
                each([&](std::int64_t at) { sum += x[at]; });
                each([&](std::int64_t at) {
                  squares += std::pow(static_cast<double>(x[at]) - sum / count, 2);
                });
                CHECK(close(mean[c], sum / count, 4, 1), c, mean[c], sum / count);
                CHECK(close(var[c], squares / count, 4, 1), c, var[c]);
                each([&](std::int64_t at) {
                  const double expected = (x[at] - sum / count) /
                                              std::sqrt(squares / count + 0.01) *
                                              (affine ? static_cast<double>(weight[c]) : 1.0) +
                                          (affine ? static_cast<double>(bias[c]) : 0.0);
                  CHECK(close(y[at], expected, 8, 20), at, y[at], expected);
                });
              }
            });
  });
}

TEST(dropout_and_drop_block2d) {
  const PhiloxStream stream{0x123456789abcdefu, 7, 3};
  for_each_type([&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t size : kSizes)
      check_kernel<T>("dropout", 0, [&](const auto& k, Arrays<T>& arrays) {
        const T* x = arrays.input(size);
        T* y = arrays.output(size);
        arrays.ranges(
            size,
            [&](std::int64_t begin, std::int64_t end) {
              k.dropout.forward(stream, 5, begin, end - begin, 0x40000000u, T(2), x + begin,
                                y + begin);
            },
            4);
        for (std::int64_t i = 0; i < size; ++i) {
          const std::uint32_t word =
              philox(stream, 5, static_cast<std::uint32_t>(i / 4)).word[i % 4];
          CHECK(y[i] == (word < 0x40000000u ? T(0) : 2 * x[i]), i);
        }
      });
    for (const DropBlock2dShape& s :
         {DropBlock2dShape{1, 1, 1, 1, 1u << 30}, DropBlock2dShape{2, 5, 7, 3, 1u << 28},
          DropBlock2dShape{3, 30, 17, 2, 1u << 26}, DropBlock2dShape{0, 4, 4, 2, 1u << 28},
          DropBlock2dShape{1, 4, 6, 4, 1ull << 32}})
      check_kernel<T>("drop_block2d", 0, [&](const auto& k, Arrays<T>& arrays) {
        const std::int64_t size = s.C * s.H * s.W;
        const T* x = arrays.input(size);
        T* y = arrays.output(size);
        k.drop_block2d.forward(s, stream, 9, x, y);
        std::vector<bool> kept(static_cast<std::size_t>(size), true);
        for (std::int64_t e = 0; e < size; ++e) {
          const std::int64_t h = e / s.W % s.H, w = e % s.W;
          const std::uint32_t word =
              philox(stream, 9, static_cast<std::uint32_t>(e / 4)).word[e % 4];
          if (word >= s.threshold || h + s.block > s.H || w + s.block > s.W) continue;
          for (std::int64_t i = 0; i < s.block * s.block; ++i)
            kept[static_cast<std::size_t>(e + i / s.block * s.W + i % s.block)] = false;
        }
        const auto count = static_cast<double>(std::count(kept.begin(), kept.end(), true));
        for (std::int64_t e = 0; e < size; ++e)
          CHECK(y[e] == (kept[static_cast<std::size_t>(e)]
                             ? x[e] * static_cast<T>(static_cast<double>(size) / count)
                             : T(0)),
                e);
      });
  });
}

// --- arrangement

TEST(concat_and_pad2d) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t width : kSizes)
      check_kernel<T>("concat", 0, [&](const auto& k, Arrays<T>& arrays) {
        const std::int64_t rows = 3;
        const T *left = arrays.input(rows * width), *right = arrays.input(rows * 2);
        T* y = arrays.output(rows * (width + 2));
        arrays.ranges(rows, [&](std::int64_t begin, std::int64_t end) {
          T* const y_row = y + begin * (width + 2);
          k.concat.copy_rows(end - begin, width, left + begin * width, width, y_row, width + 2);
          k.concat.copy_rows(end - begin, 2, right + begin * 2, 2, y_row + width, width + 2);
        });
        for (std::int64_t row = 0; row < rows; ++row)
          for (std::int64_t j = 0; j < width + 2; ++j)
            CHECK(y[row * (width + 2) + j] ==
                  (j < width ? left[row * width + j] : right[row * 2 + j - width]));
      });
    for (const Pad2dShape& s : {Pad2dShape{2, 3, 5, 1, 2, 0, 3}, Pad2dShape{1, 1, 1, 0, 0, 0, 0},
                                Pad2dShape{3, 4, 17, 0, 1, 2, 0}, Pad2dShape{0, 2, 2, 1, 1, 1, 1},
                                Pad2dShape{2, 0, 3, 1, 0, 1, 1}, Pad2dShape{2, 3, 0, 1, 0, 1, 1}})
      check_kernel<T>("pad2d", 0, [&](const auto& k, Arrays<T>& arrays) {
        const std::int64_t x_size = s.planes * s.H * s.W, y_size = s.planes * s.OH() * s.OW();
        const T *x = arrays.input(x_size), *dy = arrays.input(y_size);
        T *y = arrays.output(y_size), *dx = arrays.output(x_size);
        arrays.ranges(s.planes, [&](std::int64_t begin, std::int64_t end) {
          k.pad2d.forward(s, begin, end, T(0.25), x, y);
          k.pad2d.backward(s, begin, end, dy, dx);
        });
        for (std::int64_t i = 0; i < y_size; ++i) {
          const std::int64_t h = i / s.OW() % s.OH() - s.top, w = i % s.OW() - s.left,
                             plane = i / (s.OH() * s.OW());
          const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
          const std::int64_t at = inside ? (plane * s.H + h) * s.W + w : 0;
          CHECK(y[i] == (inside ? x[at] : T(0.25)), i);
          CHECK(!inside || dx[at] == dy[i], i);
        }
      });
  });
}

// --- optimisers

TEST(optimisers) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t size : kSizes) {
      for (int variant = 0; variant < 4; ++variant) {
        const bool with_velocity = variant & 1, nesterov = variant & 2;
        check_kernel<T>("sgd and rmsprop", 8, [&](const auto& k, Arrays<T>& arrays) {
          const T* g = arrays.input(size);
          T *p = arrays.updated(size), *q = arrays.updated(size), *square = arrays.updated(size, 0),
            *v = with_velocity ? arrays.updated(size) : nullptr,
            *u = with_velocity ? arrays.updated(size) : nullptr;
          const SgdSettings<T> sgd{T(0.1), T(0.9), T(0.5), T(0.01), nesterov};
          const RmspropSettings<T> rmsprop{T(0.1), T(0.9), T(0.1), T(0.01), T(0.8), T(0.01)};
          arrays.ranges(size, [&](std::int64_t begin, std::int64_t end) {
            k.sgd.update(sgd, end - begin, p + begin, g + begin, v ? v + begin : nullptr);
            k.rmsprop.update(rmsprop, end - begin, q + begin, g + begin, square + begin,
                             u ? u + begin : nullptr);
          });
        });
      }
      check_kernel<T>("adam", 8, [&](const auto& k, Arrays<T>& arrays) {
        const T* g = arrays.input(size);
        T *p = arrays.updated(size), *m = arrays.updated(size), *v = arrays.updated(size, 0);
        const AdamSettings<T> settings{T(0.9),  T(0.99), T(0.1),  T(0.01), T(0.1),
                                       T(10.0), T(0.01), T(0.01), T(0.99)};
        arrays.ranges(size, [&](std::int64_t begin, std::int64_t end) {
          k.adam.update(settings, end - begin, p + begin, g + begin, m + begin, v + begin);
        });
      });
      check_kernel<T>("sum_of_squares", 2, [&](const auto& k, Arrays<T>& arrays) {
        const T* g = arrays.input(size);
        const double sum = k.sum_of_squares.sum(size, g);
        double expected = 0;
        for (std::int64_t i = 0; i < size; ++i) expected += std::pow(static_cast<double>(g[i]), 2);
        CHECK(std::fabs(sum - expected) <= 1e-13 * expected, size, sum, expected);
        arrays.number(sum);
      });
    }
  });
}

PYNN_TEST_MAIN
