// Kernels that move or change values one by one, and sums of them.
#include "activations.h"
#include "cuda/kernels/bias.h"
#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/concat.h"
#include "cuda/kernels/gather.h"
#include "cuda/kernels/layout.h"
#include "cuda/kernels/pad2d.h"
#include "device_runs.h"
#include "shapes/broadcast.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::cuda;  // NOLINT
using namespace pynn::test;  // NOLINT

const std::int64_t kSizes[] = {0, 1, 31, 1024, 1025, 3000};
const std::pair<std::int64_t, std::int64_t> kTables[] = {{0, 3},   {3, 0},   {1, 1},   {5, 37},
                                                         {33, 64}, {100, 7}, {2, 2000}};

template <typename T>
void check_activation(const Activation& activation, std::int64_t size, bool add) {
  Random random(7);
  auto x = random.values<T>(size, -5, 5);
  if (size > 30) {
    x[3] = 0, x[4] = static_cast<T>(NAN), x[5] = static_cast<T>(INFINITY);
    x[6] = static_cast<T>(-INFINITY), x[7] = static_cast<T>(-0.0);
  }
  const auto dy = random.values<T>(size), at_y = random.values<T>(size),
             dx = random.values<T>(size);
  std::vector<Expected> y(at(size)), expected(at(size));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = activated(activation, double(x[i]));
    y[i] = {value, std::fabs(value)};
    expected[i].add(activated_backward(activation, double(dy[i]), double(at_y[i])));
    expected[i].magnitude += std::fabs(double(dy[i]));  // 1 - y y may cancel
    if (add) expected[i].add(double(dx[i]));
  }
  const std::string name = message("activation ", static_cast<int>(activation.kind), " ", size);
  const auto device = run_alike(name, [&](Device& d) {
    activation_forward(activation, size, d.input(x), d.output<T>(size), d.stream());
    activation_backward(activation, size, d.input(dy), d.input(at_y), add, d.updated(dx),
                        d.stream());
    T* const in_place = d.updated(x);
    activation_forward(activation, size, in_place, in_place, d.stream());
  });
  compare(name, device->template result<T>(0), y, 3);
  compare(name + " dx", device->template result<T>(1), expected, 3);
  compare_exactly(name + " in place", device->template result<T>(2), device->template result<T>(0));
}

TEST(activations) {
  for (const Activation& activation : kActivations)
    for (const std::int64_t size : kSizes) {
      check_activation<float>(activation, size, size == 31);
      check_activation<double>(activation, size, size == 31);
    }
}

template <typename T>
void check_table(std::int64_t rows, std::int64_t columns) {
  Random random(8);
  const auto x = random.values<T>(rows * columns), b = random.values<T>(rows),
             db = random.values<T>(rows);
  std::vector<T> y(x.size()), transposed(x.size());
  std::vector<float> narrow_transposed(x.size());
  std::vector<Expected> sums(at(rows));
  for (std::int64_t i = 0; i < rows; ++i) {
    sums[at(i)].add(double(db[at(i)]));
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::size_t place = at(i * columns + j);
      y[place] = x[place] + b[at(i)];
      transposed[at(j * rows + i)] = x[place];
      narrow_transposed[at(j * rows + i)] = static_cast<float>(x[place]);
      sums[at(i)].add(double(x[place]));
    }
  }
  const std::string name = message("table ", rows, " x ", columns);
  const auto device = run_alike(name, [&](Device& d) {
    const T* const x_ = d.input(x);
    bias_forward(rows, columns, x_, d.input(b), d.output<T>(rows * columns), d.stream());
    bias_backward(rows, columns, x_, true, d.updated(db), d.stream());
    transpose(rows, columns, x_, d.output<T>(rows * columns), d.stream());
    transpose(rows, columns, x_, d.output<float>(rows * columns), d.stream());
  });
  compare_exactly(name + " bias", device->template result<T>(0), y);
  compare(name + " sums", device->template result<T>(1), sums, 16 + 2);
  compare_exactly(name + " transposed", device->template result<T>(2), transposed);
  compare_exactly(name + " transposed, float", device->template result<float>(3),
                  narrow_transposed);
}

TEST(biases_and_transposes) {
  for (const auto& [rows, columns] : kTables) {
    check_table<float>(rows, columns);
    check_table<double>(rows, columns);
  }
}

TEST(transposes_higher_than_a_grid) {
  const std::int64_t rows = 65536 * 32 + 5;
  const auto x = Random(10).values<float>(rows);
  Device device;
  transpose(rows, 1, device.input(x), device.output<float>(rows), device.stream());
  check(cudaStreamSynchronize(device.stream()), "a kernel");
  compare_exactly("a high transpose", device.result<float>(0), x);
}

template <typename T>
void check_bias_activation(std::int64_t rows, std::int64_t columns, bool bias) {
  Random random(9);
  const auto y = random.values<T>(rows * columns), b = random.values<T>(rows);
  for (const Activation& activation : kActivations) {
    std::vector<Expected> expected(y.size());
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) {
        Expected sum;
        sum.add(double(y[at(i * columns + j)]));
        if (bias) sum.add(double(b[at(i)]));
        expected[at(i * columns + j)] = sum.through(activated(activation, sum.value));
      }
    const std::string name = message("bias ", bias, " and activation ",
                                     static_cast<int>(activation.kind), ", ", rows, " x ", columns);
    const auto device = run_alike(name, [&](Device& d) {
      bias_activation(rows, columns, bias ? d.input(b) : nullptr, activation, d.updated(y),
                      d.stream());
    });
    compare(name, device->template result<T>(0), expected, 8);
  }
}

TEST(biases_and_activations_in_place) {
  for (const auto& [rows, columns] : kTables)
    for (const bool bias : {false, true}) {
      check_bias_activation<float>(rows, columns, bias);
      check_bias_activation<double>(rows, columns, bias);
    }
}

std::int64_t element(const Shape& whole, const Shape& shape, std::int64_t flat) {
  std::int64_t place = 0, stride = 1;
  for (std::size_t axis = whole.size(); axis-- > 0;) {
    const std::int64_t index = flat % whole[axis];
    flat /= whole[axis];
    const std::size_t missing = whole.size() - shape.size();
    if (axis < missing) continue;
    const std::int64_t size = shape[axis - missing];
    if (size != 1) place += index * stride;
    stride *= size;
  }
  return place;
}

template <typename T>
void check_broadcast(const Shape& a_shape, const Shape& b_shape) {
  const Shape shape = broadcast_shape(a_shape, b_shape);
  Random random(9);
  const auto a = random.values<T>(element_count(a_shape)),
             b = random.values<T>(element_count(b_shape));
  const auto dy = random.values<T>(element_count(shape)), da = random.values<T>(count(a));
  std::vector<T> sum(dy.size()), product(dy.size());
  std::vector<Expected> of_sum(a.size()), of_product(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) of_sum[i].add(double(da[i]));
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const std::size_t in_a = at(element(shape, a_shape, static_cast<std::int64_t>(i)));
    const std::size_t in_b = at(element(shape, b_shape, static_cast<std::int64_t>(i)));
    sum[i] = a[in_a] + b[in_b];
    product[i] = a[in_a] * b[in_b];
    of_sum[in_a].add(double(dy[i]));
    of_product[in_a].add(double(dy[i]) * double(b[in_b]));
  }
  const std::string name = "broadcast " + to_string(a_shape) + to_string(b_shape);
  const auto device = run_alike(name, [&](Device& d) {
    const T *const a_ = d.input(a), *const b_ = d.input(b), *const dy_ = d.input(dy);
    const BroadcastShape walk = broadcast_walk(a_shape, b_shape);
    const ReductionShape reduction = reduction_walk(shape, a_shape, b_shape);
    add_forward(walk, a_, b_, d.output<T>(count(dy)), d.stream());
    mul_forward(walk, a_, b_, d.output<T>(count(dy)), d.stream());
    reduce(reduction, dy_, static_cast<const T*>(nullptr), true, d.updated(da), d.stream());
    reduce(reduction, dy_, b_, false, d.output<T>(count(a)), d.stream());
  });
  compare_exactly(name + " sum", device->template result<T>(0), sum);
  compare_exactly(name + " product", device->template result<T>(1), product);
  compare(name + " da of the sum", device->template result<T>(2), of_sum, 16 + 2);
  compare(name + " da of the product", device->template result<T>(3), of_product, 16 + 3);
}

TEST(broadcasts) {
  const std::pair<Shape, Shape> cases[] = {{{1}, {1}},
                                           {{3, 5, 7}, {3, 5, 7}},
                                           {{4, 5}, {}},
                                           {{4, 5}, {5}},
                                           {{5}, {4, 5}},
                                           {{4, 5, 2, 3}, {4, 1, 1, 1}},
                                           {{4, 1, 1, 1}, {4, 5, 2, 33}},
                                           {{3, 1, 5}, {4, 1}},
                                           {{0, 4}, {4}},
                                           {{4}, {0, 4}},
                                           {{}, {70, 30}},
                                           {{9000, 1}, {9000, 3}}};
  for (const auto& [a, b] : cases) {
    check_broadcast<float>(a, b);
    check_broadcast<double>(a, b);
  }
}

TEST(axes_in_another_order) {
  Random random(10);
  const auto x = random.values<float>(3 * 5 * 7);  // (3, 5, 7) -> (5, 7, 3)
  Axes axes;
  axes.count = 3;
  const std::int64_t sizes[] = {5, 7, 3}, strides[] = {7, 1, 35};
  for (int i = 0; i < 3; ++i) axes.size[i] = sizes[i], axes.a[i] = strides[i];
  std::vector<float> expected;
  for (int i = 0; i < 5; ++i)
    for (int j = 0; j < 7; ++j)
      for (int k = 0; k < 3; ++k) expected.push_back(x[at(k * 35 + i * 7 + j)]);
  const auto device = run_alike("permute", [&](Device& d) {
    permute(axes, d.input(x), d.output<float>(105), d.stream());
    float* const twice = d.updated(x);
    accumulate(105, twice, twice, d.stream());
  });
  compare_exactly("permute", device->result<float>(0), expected);
  for (std::size_t i = 0; i < x.size(); ++i) expected[i] = 2 * x[i];
  compare_exactly("accumulate", device->result<float>(1), expected);
}

template <typename T>
void check_pad(const Pad2dShape& s, std::int64_t N) {
  Random random(11);
  const auto x = random.values<T>(s.planes * s.H * s.W * N);
  const auto dy = random.values<T>(s.planes * s.OH() * s.OW() * N), dx = random.values<T>(count(x));
  std::vector<T> y(dy.size(), static_cast<T>(1.5)), expected = dx;
  for (std::int64_t plane = 0, i = 0; plane < s.planes; ++plane)
    for (std::int64_t h = 0; h < s.H; ++h)
      for (std::int64_t w = 0; w < s.W; ++w)
        for (std::int64_t n = 0; n < N; ++n, ++i) {
          const std::size_t place =
              at(((plane * s.OH() + h + s.top) * s.OW() + w + s.left) * N + n);
          y[place] = x[at(i)];
          expected[at(i)] += dy[place];
        }
  const auto device = run_alike("pad", [&](Device& d) {
    pad2d_forward(s, N, 1.5, d.input(x), d.output<T>(count(y)), d.stream());
    pad2d_backward(s, N, d.input(dy), true, d.updated(dx), d.stream());
  });
  compare_exactly("pad", device->template result<T>(0), y);
  compare_exactly("pad dx", device->template result<T>(1), expected);
}

TEST(pads) {
  for (const Pad2dShape& s :
       {Pad2dShape{1, 1, 1, 1, 1, 1, 1}, {3, 4, 5, 0, 1, 2, 3}, {2, 3, 3, 0, 0, 0, 0}})
    for (const std::int64_t N : {0, 1, 37}) {
      check_pad<float>(s, N);
      check_pad<double>(s, N);
    }
}

TEST(parts_of_a_concatenation) {
  Random random(12);
  const auto x = random.values<float>(4 * 6), y = random.values<float>(4 * 10);
  std::vector<float> copied = y, added = y;
  for (std::size_t row = 0; row < 4; ++row)
    for (std::size_t i = 0; i < 6; ++i) {
      copied[row * 10 + 3 + i] = x[row * 6 + i];
      added[row * 10 + 3 + i] += x[row * 6 + i];
    }
  const auto device = run_alike("concat", [&](Device& d) {
    copy_rows(4, 6, d.input(x), 6, false, d.updated(y) + 3, 10, d.stream());
    copy_rows(4, 6, d.input(x), 6, true, d.updated(y) + 3, 10, d.stream());
  });
  compare_exactly("concat", device->result<float>(0), copied);
  compare_exactly("concat, added", device->result<float>(1), added);
}

template <typename Value, typename T>
void check_gather(std::int64_t features, std::int64_t N, bool ordered, bool with_state) {
  const std::int64_t samples = 3 * N + 5, index = with_state ? 2 : 0;
  Random random(13);
  const auto data = random.values<Value>(samples * features, 0, 255);
  std::vector<std::int64_t> order, labels;
  for (std::int64_t i = 0; i < 3 * N; ++i) order.push_back((i * 7 + 3) % samples);
  for (std::int64_t i = 0; i < 2 * samples; ++i) labels.push_back(i * i);
  StepState state{};
  state.index = static_cast<std::uint32_t>(index);
  std::vector<T> x(at(features * N));
  std::vector<std::int64_t> y(at(2 * N));
  for (std::int64_t n = 0; n < N; ++n) {
    const std::int64_t sample = ordered ? order[at(index * N + n)] : index * N + n;
    for (std::int64_t f = 0; f < features; ++f)
      x[at(f * N + n)] =
          static_cast<T>(data[at(sample * features + f)]) * static_cast<T>(0.5) + T(1);
    for (std::int64_t each = 0; each < 2; ++each)
      y[at(each * N + n)] = labels[at(2 * sample + each)];
  }
  std::vector<std::int64_t> first_labels;
  for (std::int64_t i = 0; i < samples; ++i) first_labels.push_back(labels[at(2 * i)]);
  const auto device = run_alike("gather", [&](Device& d) {
    const auto* const state_ = with_state ? d.input(std::vector<StepState>{state}) : nullptr;
    const std::int64_t* const order_ = ordered ? d.input(order) : nullptr;
    gather(features, N, d.input(data), order_, state_, 0.5, 1, d.output<T>(features * N),
           d.stream());
    gather_labels(2, N, d.input(labels), order_, state_, d.output<std::int64_t>(2 * N), d.stream());
    T* const x_ = d.output<T>(features * N);
    auto* const y_ = d.output<std::int64_t>(N);
    gather_batch(features, N, d.input(data), d.input(first_labels), order_, state_, 0.5, 1, x_, y_,
                 d.stream());
  });
  compare_exactly("gather", device->template result<T>(0), x);  // both roundings are exact
  compare_exactly("gather labels", device->template result<std::int64_t>(1), y);
  compare_exactly("gather_batch", device->template result<T>(2), x);
  y.resize(at(N));
  compare_exactly("gather_batch labels", device->template result<std::int64_t>(3), y);
}

TEST(batches_of_a_data_set) {
  for (const bool ordered : {true, false})
    for (const bool with_state : {true, false}) {
      check_gather<std::uint8_t, float>(784, 37, ordered, with_state);
      check_gather<std::uint8_t, double>(5, 3, ordered, with_state);
      check_gather<std::uint8_t, float>(1, 1, ordered, with_state);
      check_gather<std::uint8_t, float>(3, 0, ordered, with_state);
    }
}

TEST(steps_advance_until_one_fails) {
  StepState state{5, 7, 0, 3, 0, 0, 0}, failed{5, 7, 0, 3, 1, 0, 0};
  const auto device = run_alike("advance", [&](Device& d) {
    advance(d.updated(std::vector<StepState>{state}), d.stream());
    advance(d.updated(std::vector<StepState>{failed}), d.stream());
  });
  const StepState after = device->result<StepState>(0)[0], same = device->result<StepState>(1)[0];
  CHECK(after.seed == 5 && after.step == 8 && after.index == 4 && after.failed == 0);
  CHECK(same.step == 7 && same.index == 3 && same.failed == 1);
}

TEST(arrays_that_are_too_large_are_refused) {
  bool refused = false;
  try {
    activation_forward<float>({}, std::int64_t{1} << 31, nullptr, nullptr, nullptr);
  } catch (const std::invalid_argument& error) {
    refused = std::string(error.what()).find("2147483648 elements") != std::string::npos;
  }
  CHECK(refused);
}

}  // namespace

PYNN_TEST_MAIN
