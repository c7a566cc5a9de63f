// The tiles of plans, and what moves samples into lanes and back: against loops in double, with all
// arrays at forbidden pages.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernel_runs.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::test;  // NOLINT

constexpr std::int64_t kLanes16 = kBlockLanes;

std::vector<std::int32_t> steps(std::int64_t count, std::int64_t step) {
  std::vector<std::int32_t> result;
  for (std::int64_t i = 0; i < count; ++i) result.push_back(static_cast<std::int32_t>(i * step));
  return result;
}

enum class Order {
  any_a_by_rows,     // A (rows, depth), B (depth, columns, 16)
  any_a_by_columns,  // A (depth, rows), B likewise
  a_by_rows,         // B (columns, depth, 16), and the tile is told that steps are even
  a_by_columns,
  a_in_lanes,   // A (depth / 16, rows, 16), B (depth, columns, 16)
  a_in_panels,  // A (rows / panel, depth, panel), B (depth, columns, 16)
};
constexpr Order kOrders[] = {Order::any_a_by_rows, Order::any_a_by_columns, Order::a_by_rows,
                             Order::a_by_columns,  Order::a_in_lanes,       Order::a_in_panels};

struct OuterCase {
  std::int64_t rows, columns, depth, depth_block, last_lanes;
  bool bias, accumulate, relu, mask, step = false;
};

// C is (rows, columns, 16) less the lanes that it has not.
template <typename T>
void check_outer(const OuterCase& c, Order order) {
  check_kernel<T>(
      "outer_product", 8.0 * static_cast<double>(c.depth + 2),
      [&](const IsaTable<T>& k, Arrays<T>& arrays) {
        const std::int64_t width = (c.columns - 1) * kLanes16 + c.last_lanes;
        const bool b_apart = order == Order::a_by_rows || order == Order::a_by_columns;
        const bool a_by_columns = order == Order::any_a_by_columns || order == Order::a_by_columns;
        const bool lanes = order == Order::a_in_lanes;
        const std::int64_t panel = order == Order::a_in_panels ? 5 + c.rows % 2 : 1;
        std::vector<std::int32_t> a_offsets = steps(c.depth, a_by_columns ? c.rows : panel);
        if (lanes)
          for (std::int32_t& offset : a_offsets)
            offset = offset / 16 * static_cast<std::int32_t>(c.rows) * 16 + offset % 16;
        const std::vector<std::int32_t> b_offsets =
            steps(c.depth, b_apart ? kLanes16 : c.columns * kLanes16);
        std::vector<std::int64_t> columns, b_columns;
        for (std::int64_t j = 0; j < c.columns; ++j) {
          columns.push_back(j * kLanes16);
          b_columns.push_back(j * kLanes16 * (b_apart ? c.depth : 1));
        }
        OuterProduct<T> p{};
        p.rows = c.rows;
        p.columns = c.columns;
        p.depth = c.depth;
        p.a = arrays.input((c.rows + panel - 1) / panel * panel *
                           (lanes ? (c.depth + 15) / 16 * 16 : c.depth));
        p.a_row = lanes ? 16 : a_by_columns ? 1 : c.depth;
        p.a_offsets = a_offsets.data();
        p.panel_rows = panel;
        p.a_panel = panel * c.depth;
        p.b = arrays.input(c.depth * c.columns * kLanes16);
        p.b_offsets = b_offsets.data();
        p.b_columns = b_columns.data();
        p.even = b_apart;
        p.bias = c.bias ? arrays.input(c.rows) : nullptr;
        p.mask = c.mask ? arrays.input(c.rows * width) : nullptr;
        p.c = arrays.updated(c.rows * width);
        p.c_row = width;
        p.c_columns = columns.data();
        p.accumulate = c.accumulate;
        p.relu = c.relu;
        p.depth_block = c.depth_block;
        p.last_lanes = c.last_lanes;
        const GradientStep<T> step{T(0.5), T(0.25)};
        if (c.step) p.step = &step;
        const std::vector<T> before(p.c, p.c + c.rows * width);
        arrays.ranges((c.rows + panel - 1) / panel, [&](std::int64_t first, std::int64_t last) {
          const std::int64_t begin = first * panel, end = std::min(last * panel, c.rows);
          OuterProduct<T> part = p;
          part.rows = end - begin;
          part.a += panel > 1 ? first * p.a_panel : begin * p.a_row;
          part.c += begin * p.c_row;
          if (part.bias) part.bias += begin;
          if (part.mask) part.mask += begin * p.c_row;
          k.outer_product.run(part);
        });
        for (std::int64_t i = 0; i < c.rows; ++i)
          for (std::int64_t j = 0; j < width; ++j) {
            double expected = c.accumulate ? before[static_cast<std::size_t>(i * width + j)]
                              : c.bias     ? p.bias[i]
                                           : 0.0;
            double magnitude = 1;
            for (std::int64_t l = 0; l < c.depth; ++l) {
              const double term =
                  static_cast<double>(
                      p.a[(panel > 1 ? i / panel * p.a_panel + i % panel : i * p.a_row) +
                          p.a_offsets[l]]) *
                  static_cast<double>(p.b[b_offsets[static_cast<std::size_t>(l)] +
                                          b_columns[static_cast<std::size_t>(j / 16)] + j % 16]);
              expected += term;
              magnitude += std::fabs(term);
            }
            if (c.relu) expected = std::max(expected, 0.0);
            if (c.mask && p.mask[i * width + j] <= 0) expected = 0;
            if (c.step) {
              const double start = before[static_cast<std::size_t>(i * width + j)];
              expected = start - 0.5 * (expected + 0.25 * start);
            }
            const double error = std::fabs(static_cast<double>(p.c[i * width + j]) - expected);
            CHECK(error <= static_cast<double>(c.depth + 2) * kEps<T> * magnitude, "outer_product",
                  c.rows, c.columns, c.depth, "at", i, j, p.c[i * width + j], expected);
          }
      });
}

}  // namespace

TEST(outer_product) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    int turn = 0;
    for (std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 20})
      for (std::int64_t columns : {1, 2, 3, 4, 5, 7, 8, 9})
        for (std::int64_t depth : {0, 1, 5, 12, 38}) {
          ++turn;
          const bool accumulate = turn % 3 == 1;
          for (const Order order : kOrders)
            check_outer<T>({rows, columns, depth, turn % 4 == 0 ? 5 : 256,
                            turn % 5 == 0 ? turn % 15 + 1 : kLanes16, turn % 3 == 0, accumulate,
                            turn % 7 == 0, turn % 6 == 0},
                           order);
        }
  });
}

TEST(outer_product_steps_down_the_gradient) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t rows : {1, 5, 6, 12, 20})
      for (std::int64_t columns : {1, 4, 5})
        for (std::int64_t last_lanes : {3, 16})
          for (const Order order : kOrders)
            check_outer<T>({rows, columns, 21, 21, last_lanes, false, false, false, false, true},
                           order);
  });
}

TEST(outer_product_carries_nan_and_infinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::string& isa : available_isas()) {
    const float a = 2;
    float b[kLanes16] = {1, nan, infinity, -infinity}, c[kLanes16];
    const std::int32_t offset = 0;
    const std::int64_t column = 0;
    OuterProduct<float> p{};
    p.rows = p.columns = p.depth = 1;
    p.a = &a;
    p.a_offsets = p.b_offsets = &offset;
    p.b = b;
    p.b_columns = p.c_columns = &column;
    p.c = c;
    p.relu = true;
    isa_tables(isa).f32.outer_product.run(p);
    CHECK(c[0] == 2 && std::isnan(c[1]) && c[2] == infinity && c[3] == 0, isa);
  }
}

TEST(outer_product_packs) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t width : {1, 4, 5, 6, 12})
      for (std::int64_t rows : {std::int64_t{1}, width - width / 3, width})
        for (std::int64_t depth : {1, 3, 16, 25, 40})
          for (bool along_rows : {false, true})
            check_kernel<T>("outer_product", 0, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
              const std::int64_t row = along_rows ? depth : 1, step = along_rows ? 1 : rows;
              const T* const from = arrays.input(rows * depth);
              T* const packed = Arrays<T>::scratch(width * depth + kLanes16);
              k.outer_product.pack(width, rows, depth, from, row, step, packed);
              T* const to = arrays.output(width * depth);
              std::copy_n(packed, width * depth, to);
              for (std::int64_t l = 0; l < depth; ++l)
                for (std::int64_t r = 0; r < width; ++r)
                  CHECK(to[l * width + r] == (r < rows ? from[r * row + l * step] : T(0)), "pack",
                        width, rows, depth, along_rows, "at", l, r);
            });
  });
}

TEST(dot_product) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t rows : {1, 2, 3, 4, 5, 6, 11})
      for (std::int64_t columns : {1, 4, 5, 7, 10, 12, 13, 25})
        for (std::int64_t depth : {0, 1, 6})
          for (bool add : {false, true})
            check_kernel<T>(
                "dot_product", 64.0 * static_cast<double>(depth + 1),
                [&](const IsaTable<T>& k, Arrays<T>& arrays) {
                  const std::vector<std::int32_t> b_columns = steps(columns, depth * kLanes16);
                  const std::vector<std::int32_t> b_offsets = steps(depth, kLanes16);
                  const T* const a = arrays.input(rows * depth * kLanes16);
                  const T* const b = arrays.input(columns * depth * kLanes16);
                  T* const sums = Arrays<T>::scratch(rows * columns * k.dot_product.lanes);
                  std::fill(sums, sums + rows * columns * k.dot_product.lanes, add ? T(0) : T(7));
                  k.dot_product.run({rows, columns, depth, a, depth * kLanes16, b, b_columns.data(),
                                     b_offsets.data(), add, sums});
                  T* const to = arrays.updated(rows * columns);
                  const std::vector<T> before(to, to + rows * columns);
                  k.dot_product.sum_lanes(rows * columns, sums, add, to);
                  for (std::int64_t i = 0; i < rows; ++i)
                    for (std::int64_t j = 0; j < columns; ++j) {
                      double expected =
                          add ? before[static_cast<std::size_t>(i * columns + j)] : 0.0;
                      for (std::int64_t p = 0; p < depth * kLanes16; ++p)
                        expected += static_cast<double>(a[i * depth * kLanes16 + p]) *
                                    static_cast<double>(b[j * depth * kLanes16 + p]);
                      CHECK(std::fabs(static_cast<double>(to[i * columns + j]) - expected) <=
                                static_cast<double>(depth * kLanes16 + 2) * kEps<T> * 100,
                            "dot_product", rows, columns, depth, "at", i, j);
                    }
                });
  });
}

TEST(sum_rows) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t rows : {1, 4, 17})
      for (std::int64_t blocks : {1, 3})
        for (std::int64_t columns : {1, 5, 9})
          check_kernel<T>("sum_rows", 1e3, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
            const std::int64_t row = columns * kLanes16, stride = rows * row;
            const T* const a = arrays.input(blocks * stride);
            T* const to = arrays.output(rows);
            k.dot_product.sum_rows(rows, row, blocks, stride, columns, a, false, to);
            for (std::int64_t r = 0; r < rows; ++r) {
              double expected = 0;
              for (std::int64_t block = 0; block < blocks; ++block)
                for (std::int64_t i = 0; i < row; ++i)
                  expected += static_cast<double>(a[block * stride + r * row + i]);
              CHECK(std::fabs(static_cast<double>(to[r]) - expected) <= 1e3 * kEps<T>, "sum_rows",
                    rows, blocks, columns);
            }
          });
  });
}

// A loop in double beside each of the three products of a dense layer of few rows.
TEST(few_rows) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    int turn = 0;
    for (std::int64_t rows : {0, 1, 2, 7, 8, 9, 15})
      for (std::int64_t inputs : {0, 1, 3, 4, 15, 16, 17, 40, 67})
        for (std::int64_t outputs : {0, 1, 5, 9, 16, 17, 33}) {
          ++turn;
          const bool biased = turn % 2 == 0, relu = turn % 3 == 0, masked = turn % 4 == 0;
          const bool add = turn % 5 == 0, steps = !add && turn % 5 < 3;
          check_kernel<T>(
              "few_rows", 4.0 * static_cast<double>(inputs + outputs + rows + 2),
              [&](const IsaTable<T>& k, Arrays<T>& arrays) {
                const FewRowsShape s{rows, inputs, outputs};
                const T* const x = arrays.input(rows * inputs);
                const T* const w = arrays.input(outputs * inputs);
                const T* const b = biased ? arrays.input(outputs) : nullptr;
                const T* const dy = arrays.input(rows * outputs);
                T* const y = arrays.output(rows * outputs);
                T* const dx = arrays.output(rows * inputs);
                T* const dw = arrays.updated(outputs * inputs);
                const std::vector<T> before(dw, dw + outputs * inputs);
                const GradientStep<T> step{T(0.5), T(0.25)};
                arrays.ranges(outputs, [&](std::int64_t begin, std::int64_t end) {
                  k.few_rows.forward(s, begin, end, x, w, b, relu, turn % 2 == 0, y);
                  k.few_rows.backward_weight(s, begin, end, dy, x, add, steps ? &step : nullptr,
                                             dw);
                });
                arrays.ranges(inputs, [&](std::int64_t begin, std::int64_t end) {
                  k.few_rows.backward_input(s, begin, end, dy, w, masked ? x : nullptr, dx);
                });
                const auto near = [&](T actual, double expected, std::int64_t terms) {
                  CHECK(
                      std::fabs(static_cast<double>(actual) - expected) <=
                          static_cast<double>(terms + 2) * kEps<T> * static_cast<double>(terms + 2),
                      rows, inputs, outputs, actual, expected);
                };
                const auto at = [](const T* array, std::int64_t i) {
                  return static_cast<double>(array[i]);
                };
                for (std::int64_t n = 0; n < rows; ++n)
                  for (std::int64_t o = 0; o < outputs; ++o) {
                    double sum = b ? at(b, o) : 0;
                    for (std::int64_t i = 0; i < inputs; ++i)
                      sum += at(x, n * inputs + i) * at(w, o * inputs + i);
                    near(y[n * outputs + o], relu ? std::max(sum, 0.0) : sum, inputs);
                  }
                for (std::int64_t n = 0; n < rows; ++n)
                  for (std::int64_t i = 0; i < inputs; ++i) {
                    double sum = 0;
                    for (std::int64_t o = 0; o < outputs; ++o)
                      sum += at(dy, n * outputs + o) * at(w, o * inputs + i);
                    if (masked && x[n * inputs + i] <= 0) sum = 0;
                    near(dx[n * inputs + i], sum, outputs);
                  }
                for (std::int64_t o = 0; o < outputs; ++o)
                  for (std::int64_t i = 0; i < inputs; ++i) {
                    double sum = 0;
                    for (std::int64_t n = 0; n < rows; ++n)
                      sum += at(dy, n * outputs + o) * at(x, n * inputs + i);
                    const double start =
                        static_cast<double>(before[static_cast<std::size_t>(o * inputs + i)]);
                    near(dw[o * inputs + i],
                         steps ? start - 0.5 * (sum + 0.25 * start)
                         : add ? start + sum
                               : sum,
                         rows);
                  }
              });
        }
  });
}

// What an element is does not depend on the rows and outputs that are computed beside it.
TEST(few_rows_alone_and_together_give_the_same_bits) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    const std::int64_t outputs = 21, rows = 15;
    for (const std::int64_t inputs : {5, 16, 37})
      check_kernel<T>("few_rows", 1e3, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
        const T* const x = arrays.input(rows * inputs);
        const T* const w = arrays.input(outputs * inputs);
        const T* const b = arrays.input(outputs);
        T* const y = arrays.output(rows * outputs);
        k.few_rows.forward({rows, inputs, outputs}, 0, outputs, x, w, b, true, false, y);
        std::vector<T> some(static_cast<std::size_t>(rows * outputs));
        for (const std::int64_t together : {1, 2, 3, 4, 7})
          for (std::int64_t row = 0; row + together <= rows; row += together) {
            const FewRowsShape s{together, inputs, outputs};
            for (const std::int64_t output : {0, 16})
              k.few_rows.forward(s, output, output == 0 ? 16 : outputs, x + row * inputs, w, b,
                                 true, true, some.data());
            for (std::int64_t i = 0; i < together * outputs; ++i)
              CHECK(some[static_cast<std::size_t>(i)] == y[row * outputs + i], together, row, i);
          }
      });
  });
}

// An infinite weight is met once, wherever the last vector of a row begins.
TEST(few_rows_carry_infinity) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    const std::int64_t inputs = 37, outputs = 3, rows = 2;
    const T infinity = std::numeric_limits<T>::infinity();
    check_kernel<T>("few_rows", 0, [&](const IsaTable<T>& k, Arrays<T>&) {
      for (std::int64_t place = 0; place < inputs; ++place) {
        std::vector<T> x(rows * inputs, T(1)), w(outputs * inputs, T(1)), y(rows * outputs);
        w[static_cast<std::size_t>(inputs + place)] = infinity;
        k.few_rows.forward({rows, inputs, outputs}, 0, outputs, x.data(), w.data(), nullptr, false,
                           false, y.data());
        for (std::int64_t n = 0; n < rows; ++n) {
          const T* const row = y.data() + n * outputs;
          CHECK(row[0] == T(inputs) && row[1] == infinity && row[2] == T(inputs), place, row[0],
                row[1], row[2]);
        }
      }
    });
  });
}

TEST(sample_blocks) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    for (std::int64_t count : {1, 3, 4, 8, 15, 16, 17, 40})
      for (std::int64_t samples : {1, 9, 16})
        check_kernel<T>("sample_blocks", 0, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
          const T* const rows = arrays.input(samples * count);
          T* const block = arrays.output(count * kLanes16);
          T* const back = arrays.output(samples * count);
          const T* from[kLanes16] = {};
          T* to[kLanes16] = {};
          for (std::int64_t i = 0; i < samples; ++i) {
            from[i] = rows + i * count;
            to[i] = back + i * count;
          }
          k.sample_blocks.gather(count, from, block);
          k.sample_blocks.scatter(count, block, to);
          for (std::int64_t i = 0; i < count; ++i)
            for (std::int64_t lane = 0; lane < kLanes16; ++lane) {
              const T expected = lane < samples ? rows[lane * count + i] : T(0);
              CHECK(block[i * kLanes16 + lane] == expected, "gather", count, samples, i, lane);
              if (lane < samples) CHECK(back[lane * count + i] == expected, "scatter", count, i);
            }
          for (std::int64_t begin : {0, 1, 5})
            for (std::int64_t end : {5, 12, 16}) {
              T* const taken = arrays.output(count * kLanes16);
              k.sample_blocks.take(count, begin, end, block, taken);
              for (std::int64_t i = 0; i < count * kLanes16; ++i) {
                const bool kept = begin <= i % kLanes16 && i % kLanes16 < end;
                CHECK(taken[i] == (kept ? block[i] : T(0)), "take", count, begin, end, i);
              }
            }
        });
  });
}

namespace {

struct WinogradCase {
  std::int64_t channels, outputs, height, width, top, left, below, right;
  bool turned, bias, accumulate, relu, mask;
};

// A convolution of one block by the transforms, with the products between them as loops.
template <typename T>
void check_winograd(const WinogradCase& c) {
  check_kernel<T>("winograd", 2e3, [&](const IsaTable<T>& k, Arrays<T>& arrays) {
    const std::int64_t OH = c.height + c.top + c.below - 2, OW = c.width + c.left + c.right - 2;
    const std::int64_t plane = c.height * c.width * kLanes16, y_plane = OH * OW * kLanes16;
    const T* const x = arrays.input(c.channels * plane);
    const T* const g = arrays.input(c.channels * 9 * c.outputs + kLanes16);
    std::vector<WinogradTile> read, written;
    for (std::int64_t h = 0; h < OH; h += 2)
      for (std::int64_t w = 0; w < OW; w += 2) {
        WinogradTile in{((h - c.top) * c.width + w - c.left) * kLanes16, 0};
        WinogradTile out{(h * OW + w) * kLanes16, 0};
        for (std::int64_t i = 0; i < 16; ++i) {
          const std::int64_t row = h - c.top + i / 4, column = w - c.left + i % 4;
          if (row >= 0 && row < c.height && column >= 0 && column < c.width) in.inside |= 1u << i;
        }
        for (std::int64_t i = 0; i < 4; ++i)
          if (h + i / 2 < OH && w + i % 2 < OW) out.inside |= 1u << i;
        read.push_back(in);
        written.push_back(out);
      }
    const auto tiles = static_cast<std::int64_t>(read.size()), line = tiles * kLanes16;
    const std::int64_t point = c.channels * line, g_point = c.channels * c.outputs + kLanes16;
    T* const v = Arrays<T>::scratch(16 * point);
    arrays.ranges(c.channels, [&](std::int64_t begin, std::int64_t end) {
      k.winograd.input({end - begin, tiles, read.data(), plane, c.width * kLanes16, point, line},
                       x + begin * plane, v + begin * line);
    });
    T* const u = Arrays<T>::scratch(16 * g_point);
    k.winograd.weights(c.outputs, c.channels, c.turned, g, g_point, u);
    const std::int64_t m_point = c.outputs * line;
    T* const m = Arrays<T>::scratch(16 * m_point + 1);
    for (std::int64_t p = 0; p < 16; ++p)
      for (std::int64_t o = 0; o < c.outputs; ++o)
        for (std::int64_t i = 0; i < line; ++i) {
          T sum = 0;
          for (std::int64_t channel = 0; channel < c.channels; ++channel)
            sum += u[p * g_point + channel * c.outputs + o] * v[p * point + channel * line + i];
          m[p * m_point + o * line + i] = sum;
        }
    const T* const bias = c.bias ? arrays.input(c.outputs) : nullptr;
    const T* const mask = c.mask ? arrays.input(c.outputs * y_plane) : nullptr;
    T* const y = arrays.updated(c.outputs * y_plane);
    const std::vector<T> before(y, y + c.outputs * y_plane);
    arrays.ranges(c.outputs, [&](std::int64_t begin, std::int64_t end) {
      k.winograd.output({end - begin, tiles, written.data(), y_plane, OW * kLanes16, m_point, line},
                        m + begin * line,
                        {bias ? bias + begin : nullptr, c.accumulate, c.relu,
                         mask ? mask + begin * y_plane : nullptr},
                        y + begin * y_plane);
    });
    for (std::int64_t o = 0; o < c.outputs; ++o)
      for (std::int64_t i = 0; i < y_plane; ++i) {
        const std::int64_t h = i / kLanes16 / OW, w = i / kLanes16 % OW, at = o * y_plane + i;
        double expected =
            c.accumulate ? static_cast<double>(before[static_cast<std::size_t>(at)]) : 0.0;
        if (bias) expected += static_cast<double>(bias[o]);
        for (std::int64_t channel = 0; channel < c.channels; ++channel)
          for (std::int64_t tap = 0; tap < 9; ++tap) {
            const std::int64_t row = h - c.top + tap / 3, column = w - c.left + tap % 3;
            if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
            expected +=
                static_cast<double>(g[(channel * 9 + (c.turned ? 8 - tap : tap)) * c.outputs + o]) *
                static_cast<double>(
                    x[channel * plane + (row * c.width + column) * kLanes16 + i % kLanes16]);
          }
        if (c.relu) expected = std::max(expected, 0.0);
        if (mask && mask[at] <= 0) expected = 0;
        CHECK(std::fabs(static_cast<double>(y[at]) - expected) <=
                  100 * static_cast<double>(c.channels + 1) * kEps<T>,
              "winograd", c.channels, c.outputs, c.height, c.width, "at", o, i, y[at], expected);
      }
  });
}

}  // namespace

TEST(winograd) {
  for_each_type([](auto zero) {
    using T = decltype(zero);
    int turn = 0;
    for (std::int64_t height : {1, 2, 3, 6, 7})
      for (std::int64_t width : {1, 4, 5})
        for (std::int64_t channels : {1, 5})
          for (std::int64_t outputs : {1, 6, 18}) {
            ++turn;
            const std::int64_t top = turn % 4, below = turn % 3 == 2 && height + top > 1 ? 1 : 2;
            check_winograd<T>({channels, outputs, height, width, top, turn / 4 % 4, below, 2,
                               turn % 5 == 0, turn % 3 == 0, turn % 4 == 0, turn % 7 == 0,
                               turn % 6 == 0});
          }
  });
}

TEST(winograd_carries_nan_and_infinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::string& isa : available_isas()) {
    float points[16 * kLanes16] = {};
    for (int p = 0; p < 16; ++p) points[p * kLanes16 + 1] = nan;
    points[2] = infinity, points[3] = -infinity;
    float y[kLanes16];
    const WinogradTile tile{0, 1};
    isa_tables(isa).f32.winograd.output({1, 1, &tile, kLanes16, kLanes16, kLanes16, kLanes16},
                                        points, {nullptr, false, true, nullptr}, y);
    CHECK(y[0] == 0 && std::isnan(y[1]) && y[2] == infinity && y[3] == 0, isa);
  }
}

PYNN_TEST_MAIN
