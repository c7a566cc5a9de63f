#include "activations.h"
#include "cuda/kernels/avg_pool2d.h"
#include "cuda/kernels/max_pool2d.h"
#include "device_runs.h"
#include "shapes/window.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::cuda;  // NOLINT
using namespace pynn::test;  // NOLINT

struct Case {
  const char* name;
  Shape x;  // (N, C, H, W)
  Pair kernel, stride;
  std::array<std::int64_t, 4> padding{};
  bool ceil_mode = false;
};

const Case kCases[] = {
    {"one_pixel", {1, 1, 1, 1}, {1, 1}, {1, 1}},
    {"tiles", {2, 3, 6, 4}, {2, 2}, {2, 2}},
    {"odd_sizes", {33, 3, 7, 5}, {2, 2}, {2, 2}},
    {"overlapping", {2, 2, 8, 9}, {3, 3}, {1, 1}},
    {"rectangular", {2, 2, 9, 8}, {2, 3}, {3, 2}},
    {"padding", {2, 2, 6, 7}, {3, 3}, {2, 2}, {1, 1, 1, 1}},
    {"padding_of_four", {2, 2, 6, 7}, {3, 3}, {1, 2}, {0, 2, 1, 0}},
    {"ceil_mode", {2, 2, 7, 8}, {3, 3}, {2, 2}, {}, true},
    {"ceil_mode_padding", {1, 2, 5, 6}, {3, 3}, {3, 3}, {1, 1, 1, 1}, true},
    {"stride_over_kernel", {1, 1, 4, 4}, {1, 1}, {4, 4}, {}, true},
    {"empty_batch", {0, 2, 4, 4}, {2, 2}, {2, 2}},
};

// Calls visit(position in y, pixel in x, code) for the pixels of every window that are no padding.
template <typename Visit>
void each_pixel(const Window& w, std::int64_t planes, std::int64_t N, const Visit& visit) {
  for (std::int64_t plane = 0, place = 0; plane < planes; ++plane)
    for (std::int64_t oh = 0; oh < w.OH; ++oh)
      for (std::int64_t ow = 0; ow < w.OW; ++ow)
        for (std::int64_t n = 0; n < N; ++n, ++place)
          for (std::int64_t kh = 0; kh < w.KH; ++kh)
            for (std::int64_t kw = 0; kw < w.KW; ++kw) {
              const std::int64_t h = oh * w.stride_h - w.top + kh,
                                 v = ow * w.stride_w - w.left + kw;
              if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
              visit(at(place), at(((plane * w.H + h) * w.W + v) * N + n), kh * w.KW + kw,
                    h * w.W + v);
            }
}

template <typename T, typename Code>
void check_max(const Case& test, const Activation& activation, bool add) {
  const Window w = pool2d_window(test.x, test.kernel, test.stride,
                                 {Padding::Kind::sides, test.padding}, test.ceil_mode);
  const std::int64_t N = test.x[0], planes = test.x[1], size = planes * w.OH * w.OW * N;
  Random random(4);
  auto x = random.values<T>(element_count(test.x));
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = static_cast<T>(0.5);  // equal ones
  for (std::size_t i = 5; i < x.size(); i += 17) x[i] = static_cast<T>(NAN);
  const auto dy = random.values<T>(size), at_y = random.values<T>(size);
  const auto dx = random.values<T>(element_count(test.x));
  std::vector<T> y(at(size));
  std::vector<Code> codes(at(size), Code(0));
  std::vector<std::int64_t> argmax(at(size), -1);
  each_pixel(w, planes, N,
             [&](std::size_t place, std::size_t pixel, std::int64_t code, std::int64_t index) {
               const bool first = argmax[place] < 0, is_nan = x[pixel] != x[pixel];
               if (!first && (y[place] != y[place] || !(x[pixel] > y[place] || is_nan))) return;
               y[place] = x[pixel], codes[place] = static_cast<Code>(code), argmax[place] = index;
             });
  std::vector<Expected> expected(dx.size());
  if (add)
    for (std::size_t i = 0; i < dx.size(); ++i) expected[i].add(static_cast<double>(dx[i]));
  each_pixel(
      w, planes, N, [&](std::size_t place, std::size_t pixel, std::int64_t code, std::int64_t) {
        if (static_cast<std::int64_t>(codes[place]) != code) return;
        expected[pixel].add(activated_backward(activation, double(dy[place]), double(at_y[place])));
        expected[pixel].magnitude += std::fabs(double(dy[place]));  // 1 - y y may cancel
      });
  const std::string name = message("max ", test.name, " ", static_cast<int>(activation.kind));
  const auto device = run_alike(name, [&](Device& d) {
    T* const y_ = d.output<T>(size);
    Code* const codes_ = d.output<Code>(size);
    max_pool2d_forward(w, planes, N, d.input(x), y_, codes_, d.stream());
    max_pool2d_indices(w, planes, N, codes_, d.output<std::int64_t>(size), d.stream());
    max_pool2d_backward(w, planes, N, d.input(dy), codes_, activation, d.input(at_y), add,
                        d.updated(dx), d.stream());
    max_pool2d_forward(w, planes, N, d.input(x), d.output<T>(size), static_cast<Code*>(nullptr),
                       d.stream());
  });
  compare_exactly(name, device->template result<T>(0), y);
  compare_exactly(name + " codes", device->template result<Code>(1), codes);
  compare_exactly(name + " argmax", device->template result<std::int64_t>(2), argmax);
  compare(name + " dx", device->template result<T>(3), expected, double(w.KH * w.KW) + 4);
  compare_exactly(name + " without codes", device->template result<T>(4), y);
}

template <typename T>
void check_avg(const Case& test, bool count_include_pad, bool add) {
  const Window w = pool2d_window(test.x, test.kernel, test.stride,
                                 {Padding::Kind::sides, test.padding}, test.ceil_mode);
  const std::int64_t N = test.x[0], planes = test.x[1], size = planes * w.OH * w.OW * N;
  Random random(5);
  const auto x = random.values<T>(element_count(test.x)), dy = random.values<T>(size);
  const auto dx = random.values<T>(element_count(test.x));
  std::vector<Expected> y(at(size)), expected(dx.size());
  std::vector<double> inside(at(size)), divisor(at(size));
  const auto padded = [](std::int64_t start, std::int64_t kernel, std::int64_t end) {
    return std::min(start + kernel, end) - start;
  };
  each_pixel(w, planes, N, [&](std::size_t place, std::size_t pixel, std::int64_t, std::int64_t) {
    const auto line = static_cast<std::int64_t>(place) / N;
    const std::int64_t oh = line / w.OW % w.OH, ow = line % w.OW;
    inside[place] += 1;
    divisor[place] = double(padded(oh * w.stride_h - w.top, w.KH, w.H + w.bottom)) *
                     double(padded(ow * w.stride_w - w.left, w.KW, w.W + w.right));
    y[place].add(double(x[pixel]));
  });
  if (!count_include_pad) divisor = inside;
  for (std::size_t i = 0; i < y.size(); ++i) y[i].value /= divisor[i], y[i].magnitude /= divisor[i];
  if (add)
    for (std::size_t i = 0; i < dx.size(); ++i) expected[i].add(double(dx[i]));
  each_pixel(w, planes, N, [&](std::size_t place, std::size_t pixel, std::int64_t, std::int64_t) {
    expected[pixel].add(double(dy[place]) / divisor[place]);
  });
  const std::string name = message("avg ", test.name, " ", count_include_pad);
  const auto device = run_alike(name, [&](Device& d) {
    avg_pool2d_forward(w, count_include_pad, planes, N, d.input(x), d.output<T>(size), d.stream());
    avg_pool2d_backward(w, count_include_pad, planes, N, d.input(dy), add, d.updated(dx),
                        d.stream());
  });
  compare(name, device->template result<T>(0), y, double(w.KH * w.KW) + 2);
  compare(name + " dx", device->template result<T>(1), expected, double(w.KH * w.KW) + 3);
}

TEST(max_pools) {
  for (const Case& test : kCases)
    for (const Activation& activation : kActivations) {
      const bool add = activation.kind == Activation::Kind::relu;
      check_max<float, std::uint8_t>(test, activation, add);
      check_max<double, std::int32_t>(test, activation, add);
      if (add) check_max<float, std::int32_t>(test, activation, add);
      if (add) check_max<double, std::uint8_t>(test, activation, add);
    }
}

TEST(average_pools) {
  for (const Case& test : kCases)
    for (const bool count_include_pad : {true, false}) {
      check_avg<float>(test, count_include_pad, count_include_pad);
      check_avg<double>(test, count_include_pad, count_include_pad);
    }
}

template <typename T>
void check_global(std::int64_t planes, std::int64_t pixels, std::int64_t N) {
  Random random(6);
  const auto x = random.values<T>(planes * pixels * N), dy = random.values<T>(planes * N);
  std::vector<Expected> y(dy.size()), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t place = i / at(pixels * N) * at(N) + i % at(N);
    y[place].add(double(x[i]) / double(pixels));
    dx[i].add(double(x[i]));
    dx[i].add(double(dy[place]) / double(pixels));
  }
  const auto device = run_alike("global", [&](Device& d) {
    global_avg_pool2d_forward(planes, pixels, N, d.input(x), d.output<T>(planes * N), d.stream());
    global_avg_pool2d_backward(planes, pixels, N, d.input(dy), true, d.updated(x), d.stream());
  });
  compare("global", device->template result<T>(0), y, double(pixels) + 2);
  compare("global dx", device->template result<T>(1), dx, 4);
}

TEST(global_average_pools) {
  for (const std::int64_t N : {0, 1, 37}) {
    check_global<float>(5, 21, N);
    check_global<double>(3, 1, N);
  }
}

}  // namespace

PYNN_TEST_MAIN
