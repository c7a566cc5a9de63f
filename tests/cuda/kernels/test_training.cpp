// Normalisation, losses, random numbers and optimisers.
#include <algorithm>

#include "activations.h"
#include "cuda/kernels/batch_norm.h"
#include "cuda/kernels/cross_entropy.h"
#include "cuda/kernels/drop_block2d.h"
#include "cuda/kernels/dropout.h"
#include "cuda/kernels/mse_loss.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/kernels/softmax.h"
#include "device_runs.h"
#include "runtime/philox.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::cuda;  // NOLINT
using namespace pynn::test;  // NOLINT

// --- softmax

template <typename T>
void check_softmax(const SoftmaxShape& s, bool log) {
  Random random(14);
  const std::int64_t size = s.outer * s.axis * s.inner;
  auto x = random.values<T>(size, -10, 10);
  const auto dy = random.values<T>(size), given = random.values<T>(size, log ? -3 : 0, log ? 0 : 1);
  const auto dx = random.values<T>(size);
  if (size > 40) x[20] = static_cast<T>(-INFINITY);
  std::vector<Expected> y(at(size)), expected(at(size));
  for (std::int64_t o = 0; o < s.outer; ++o)
    for (std::int64_t i = 0; i < s.inner; ++i) {
      const auto place = [&](std::int64_t j) { return at((o * s.axis + j) * s.inner + i); };
      double largest = -INFINITY, sum = 0;
      Expected total;
      for (std::int64_t j = 0; j < s.axis; ++j) largest = std::max(largest, double(x[place(j)]));
      for (std::int64_t j = 0; j < s.axis; ++j) {
        sum += std::exp(double(x[place(j)]) - largest);
        total.add(log ? double(dy[place(j)]) : double(dy[place(j)]) * double(given[place(j)]));
      }
      for (std::int64_t j = 0; j < s.axis; ++j) {
        const double z = double(x[place(j)]) - largest, g = double(given[place(j)]);
        const double value = log ? z - std::log(sum) : std::exp(z) / sum;
        // exp multiplies the relative error of its argument by the argument.
        y[place(j)] = {value,
                       log ? std::fabs(z) + std::fabs(value) + 1 : value * (1 + std::fabs(z))};
        if (std::isinf(z)) y[place(j)].magnitude = 0;
        Expected& d = expected[place(j)];
        d.add(double(dx[place(j)]));
        d.add(log ? double(dy[place(j)]) : g * double(dy[place(j)]));
        const double factor = log ? -std::exp(g) : -g;
        d.value += factor * total.value;
        d.magnitude += std::fabs(factor) * total.magnitude * 3;
      }
    }
  const std::string name =
      message("softmax ", s.outer, " ", s.axis, " ", s.inner, log ? " log" : "");
  const auto device = run_alike(name, [&](Device& d) {
    const auto forward = log ? log_softmax_forward<T> : softmax_forward<T>;
    const auto backward = log ? log_softmax_backward<T> : softmax_backward<T>;
    forward(s, d.input(x), d.output<T>(size), d.stream());
    backward(s, d.input(dy), d.input(given), true, d.updated(dx), d.stream());
  });
  compare(name, device->template result<T>(0), y, 16 + 4);
  compare(name + " dx", device->template result<T>(1), expected, 16 + 4);
}

TEST(softmax) {
  for (const SoftmaxShape& s : {SoftmaxShape{1, 1, 1},
                                {1, 10, 37},
                                {3, 1000, 1},
                                {2, 7, 12},
                                {1, 300, 100},
                                {4, 5, 3},
                                {0, 5, 3},
                                {3, 0, 2},
                                {1, 10, 0}})
    for (const bool log : {false, true}) {
      check_softmax<float>(s, log);
      check_softmax<double>(s, log);
    }
}

// --- losses

struct Options {
  bool mean = true, weights = false, ignores = false, probabilities = false;
  double smoothing = 0;
};

template <typename T, typename Label>
void check_cross_entropy(std::int64_t C, std::int64_t positions, const Options& o) {
  Random random(15);
  const auto logits = random.values<T>(C * positions, -4, 4);
  const auto weight = random.values<T>(C, 0.1, 2),
             probabilities = random.values<T>(C * positions, 0, 1);
  std::vector<Label> labels(at(positions));
  for (std::int64_t p = 0; p < positions; ++p) labels[at(p)] = static_cast<Label>((p * 5 + 1) % C);
  const std::int64_t ignored = 1 % C;
  double normaliser = 0;
  std::vector<Expected> losses(at(positions)), gradient(logits.size());
  Expected loss;
  const auto w = [&](std::int64_t j) { return o.weights ? double(weight[at(j)]) : 1.0; };
  for (std::int64_t p = 0; p < positions; ++p) {
    const auto label = static_cast<std::int64_t>(labels[at(p)]);
    if (o.probabilities)
      normaliser += 1;
    else if (!(o.ignores && label == ignored))
      normaliser += w(label);
  }
  const double factor = !o.mean ? 1 : normaliser == 0 ? 0 : 1 / normaliser;
  for (std::int64_t p = 0; p < positions; ++p) {
    const auto label = static_cast<std::int64_t>(labels[at(p)]);
    const auto x = [&](std::int64_t j) { return double(logits[at(j * positions + p)]); };
    if (!o.probabilities && o.ignores && label == ignored) continue;
    double largest = -INFINITY, sum = 0, mass = 0;
    std::vector<double> target;
    for (std::int64_t j = 0; j < C; ++j) {
      const double share =
          o.probabilities ? double(probabilities[at(j * positions + p)]) : j == label;
      target.push_back((share * (1 - o.smoothing) + o.smoothing / double(C)) * w(j));
      mass += target.back();
      largest = std::max(largest, x(j));
    }
    for (std::int64_t j = 0; j < C; ++j) sum += std::exp(x(j) - largest);
    Expected& l = losses[at(p)];
    for (std::int64_t j = 0; j < C; ++j) {
      const double q = target[at(j)], log_p = x(j) - largest - std::log(sum);
      l.add(-q * log_p);
      l.magnitude += q * (std::fabs(x(j)) + 1);
      gradient[at(j * positions + p)] = {
          factor * (mass * std::exp(log_p) - q),
          factor * (mass * std::exp(log_p) * (10 + std::fabs(log_p)) + q)};
    }
    loss.add(l.value * factor);
    loss.magnitude += l.magnitude * factor;
  }
  const std::string name = message("cross_entropy ", C, " x ", positions, " mean ", o.mean,
                                   " weights ", o.weights, " ignores ", o.ignores,
                                   " probabilities ", o.probabilities, " smoothing ", o.smoothing);
  const auto device = run_alike(name, [&](Device& d) {
    CrossEntropy<T, Label> task;
    task.positions = positions, task.C = C;
    T* const in_place = d.updated(logits);
    task.logits = in_place;
    task.labels = o.probabilities ? nullptr : d.input(labels);
    task.probabilities = o.probabilities ? d.input(probabilities) : nullptr;
    task.weight = o.weights ? d.input(weight) : nullptr;
    task.ignores = o.ignores, task.ignored_label = ignored;
    task.smoothing = o.smoothing, task.mean = o.mean;
    task.gradient = in_place;
    task.position_losses = d.output<T>(positions);
    StepState state{};
    state.index = 1;
    LossResult result;
    result.losses = d.updated(std::vector<double>{-1, -1, -1});
    result.state = d.updated(std::vector<StepState>{state});
    result.workspace = d.workspace(loss_workspace(positions));
    cross_entropy(task, result, d.stream());
  });
  const auto got = device->template result<double>(2);
  const double terms = 16 + 6 + double(C);
  compare(name + " gradient", device->template result<T>(0), gradient, terms);
  compare(name + " losses", device->template result<T>(1), losses, terms);
  compare(name, std::vector<T>{static_cast<T>(got[1])}, {loss}, terms);
  CHECK(got[0] == -1 && got[2] == -1, name);
  CHECK(device->template result<StepState>(3)[0].failed == 0, name);
}

TEST(cross_entropy_of_labels_and_probabilities) {
  const Options options[] = {{},
                             {false},
                             {true, true},
                             {true, false, true},
                             {true, true, true, false, 0.2},
                             {false, false, true, false, 0.1},
                             {true, false, false, true},
                             {true, true, false, true, 0.1}};
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1},    {10, 37}, {10, 64},
                                                          {1000, 3}, {3, 300}, {5, 0}};
  for (const auto& [C, positions] : shapes)
    for (const Options& o : options) {
      check_cross_entropy<float, std::int64_t>(C, positions, o);
      check_cross_entropy<double, std::int32_t>(C, positions, o);
    }
}

TEST(losses_that_are_not_finite_fail_the_step) {
  const auto failed = [](std::vector<float> logits, std::vector<std::int64_t> labels,
                         bool ignores) {
    const auto device = run_alike("failing", [&](Device& d) {
      CrossEntropy<float, std::int64_t> task;
      task.positions = 2, task.C = 3;
      task.logits = d.input(logits), task.labels = d.input(labels);
      task.ignores = ignores, task.ignored_label = 9;
      task.gradient = d.output<float>(6);
      LossResult result;
      result.losses = d.output<double>(1);
      result.state = d.updated(std::vector<StepState>{StepState{}});
      result.workspace = d.workspace(loss_workspace(2));
      cross_entropy(task, result, d.stream());
    });
    return device->result<StepState>(2)[0].failed;
  };
  CHECK(failed({1, 2, 3, 4, 5, 6}, {0, 2}, false) == 0);
  CHECK(failed({1, NAN, 3, 4, 5, 6}, {0, 2}, false) == 1);
  CHECK(failed({1, 2, 3, 4, 5, 6}, {0, 3}, false) == 1, "a label outside");
  CHECK(failed({1, 2, 3, 4, 5, 6}, {0, -1}, false) == 1, "a negative label");
  CHECK(failed({1, 2, 3, 4, 5, 6}, {9, 9}, true) == 0, "nothing but ignored labels");
  CHECK(failed({1, NAN, 3, 4, 5, 6}, {0, 9}, true) == 0, "NaN where the label is ignored");
}

template <typename T>
void check_mse(std::int64_t size, bool mean) {
  Random random(16);
  const auto prediction = random.values<T>(size), target = random.values<T>(size);
  const double factor = !mean ? 1 : size == 0 ? 0 : 1 / double(size);
  Expected loss;
  std::vector<Expected> gradient(at(size)), each(at(size));
  for (std::size_t i = 0; i < at(size); ++i) {
    const double difference = double(prediction[i]) - double(target[i]);
    loss.add(difference * difference * factor);
    each[i].add(difference * difference);
    gradient[i].add(2 * factor * difference);
  }
  const auto device = run_alike("mse", [&](Device& d) {
    LossResult result;
    result.losses = d.output<double>(1);
    result.workspace = d.workspace(loss_workspace(size));
    T *const gradient_ = d.output<T>(size), *const each_ = d.output<T>(size);
    mse_loss(size, mean, d.input(prediction), d.input(target), gradient_, each_, result,
             d.stream());
  });
  compare("mse", std::vector<T>{static_cast<T>(device->template result<double>(0)[0])}, {loss},
          16 + 4);
  compare("mse gradient", device->template result<T>(1), gradient, 3);
  compare("mse losses", device->template result<T>(2), each, 3);
}

TEST(squared_errors) {
  for (const std::int64_t size : {0, 1, 37, 1024, 5000})
    for (const bool mean : {true, false}) {
      check_mse<float>(size, mean);
      check_mse<double>(size, mean);
    }
}

// --- batch_norm

template <typename T>
void check_batch_norm(const BatchNormShape& s, const Activation& activation, bool affine,
                      double centre) {
  Random random(17);
  const std::int64_t size = s.C * s.inner;
  const auto x = random.values<T>(size, centre - 1, centre + 2), dy = random.values<T>(size);
  const auto weight = random.values<T>(s.C), bias = random.values<T>(s.C),
             dx = random.values<T>(size);
  const auto dweight = random.values<T>(s.C), dbias = random.values<T>(s.C);
  const auto running_mean = random.values<T>(s.C), running_var = random.values<T>(s.C, 0.5, 2);
  const double count_ = double(s.inner);
  std::vector<Expected> mean(at(s.C)), var(at(s.C)), y(at(size)), y_eval(at(size)),
      dx_train(at(size)), dx_eval(at(size)), dw(at(s.C)), db(at(s.C)), new_mean(at(s.C)),
      new_var(at(s.C));
  std::vector<T> mean_given(at(s.C)), var_given(at(s.C));
  for (std::int64_t c = 0; c < s.C; ++c) {
    const auto value = [&](std::int64_t i) { return double(x[at(c * s.inner + i)]); };
    const auto gradient = [&](std::int64_t i) { return double(dy[at(c * s.inner + i)]); };
    const double w = affine ? double(weight[at(c)]) : 1, b = affine ? double(bias[at(c)]) : 0;
    for (std::int64_t i = 0; i < s.inner; ++i) mean[at(c)].add(value(i) / count_);
    for (std::int64_t i = 0; i < s.inner; ++i)
      var[at(c)].add(std::pow(value(i) - mean[at(c)].value, 2) / count_);
    // What a kernel that is given statistics in T is given.
    const T m = mean_given[at(c)] = static_cast<T>(mean[at(c)].value);
    const T v = var_given[at(c)] = static_cast<T>(var[at(c)].value);
    // The batch's mean in T, and what that loses, are in y.
    const double inverse = 1 / std::sqrt(double(v) + s.eps);
    Expected sum, products;
    sum.add(affine ? 0 : 0);
    for (std::int64_t i = 0; i < s.inner; ++i) {
      const std::size_t place = at(c * s.inner + i);
      const double z = (value(i) - double(m)) * inverse * w + b;
      Expected result{
          z, (std::fabs(value(i)) + std::fabs(double(m))) * inverse * std::fabs(w) + std::fabs(b)};
      y[place] = y_eval[place] = result.through(activated(activation, z));
      sum.add(gradient(i));
      products.add(gradient(i) * (value(i) - double(m)));
      products.magnitude += std::fabs(gradient(i)) * std::fabs(double(m));
    }
    for (std::int64_t i = 0; i < s.inner; ++i) {
      const std::size_t place = at(c * s.inner + i);
      const double normal = (value(i) - double(m)) * inverse;
      const double centred =
          gradient(i) - sum.value / count_ - normal * products.value * inverse / count_;
      dx_train[place] = {
          double(dx[place]) + w * inverse * centred,
          std::fabs(double(dx[place])) + std::fabs(w) * inverse *
                                             (std::fabs(gradient(i)) + sum.magnitude / count_ +
                                              (std::fabs(normal) + std::fabs(double(m)) * inverse) *
                                                  products.magnitude * inverse / count_)};
      dx_eval[place].add(w * inverse * gradient(i));
    }
    dw[at(c)] = {double(dweight[at(c)]) + products.value * inverse,
                 std::fabs(double(dweight[at(c)])) + products.magnitude * inverse};
    db[at(c)] = {double(dbias[at(c)]) + sum.value, std::fabs(double(dbias[at(c)])) + sum.magnitude};
    const double rm = double(running_mean[at(c)]), rv = double(running_var[at(c)]);
    new_mean[at(c)] = {rm + 0.1 * (double(m) - rm), std::fabs(rm) + std::fabs(double(m))};
    new_var[at(c)] = {rv + 0.1 * (double(v) * count_ / (count_ - 1) - rv), rv + 2 * double(v)};
  }
  const std::string name = message("batch_norm ", s.C, " x ", s.inner, " around ", centre,
                                   " activation ", static_cast<int>(activation.kind));
  const auto device = run_alike(name, [&](Device& d) {
    const T *const x_ = d.input(x), *const dy_ = d.input(dy);
    const T *const w = affine ? d.input(weight) : nullptr, *const b =
                                                               affine ? d.input(bias) : nullptr;
    const T *const m = d.input(mean_given), *const v = d.input(var_given);
    T *const mean_ = d.output<T>(s.C), *const var_ = d.output<T>(s.C);
    batch_norm_forward_training(s, x_, w, b, activation, mean_, var_, d.output<T>(size),
                                d.stream());
    batch_norm_forward(s, x_, m, v, w, b, activation, d.output<T>(size), d.stream());
    T *const dw_ = d.updated(dweight), *const db_ = d.updated(dbias);
    batch_norm_backward(s, dy_, x_, m, v, w, true, true, d.updated(dx), true, dw_, db_, d.stream());
    batch_norm_backward(s, dy_, x_, m, v, w, false, false, d.output<T>(size), false,
                        static_cast<T*>(nullptr), static_cast<T*>(nullptr), d.stream());
    T *const rm = d.updated(running_mean), *const rv = d.updated(running_var);
    auto* const batches = d.updated(std::vector<std::int64_t>{4});
    StepState failed{};
    failed.failed = 1;
    batch_norm_update_running(s, m, v, 0.1, rm, rv, batches,
                              d.input(std::vector<StepState>{StepState{}}), d.stream());
    batch_norm_update_running(s, m, v, 0.1, rm, rv, batches,
                              d.input(std::vector<StepState>{failed}), d.stream());
  });
  const auto result = [&](std::size_t i) { return device->template result<T>(i); };
  if (s.inner > 0) {
    compare(name + " mean", result(0), mean, 16 + 4);
    // The variance of values of which T has lost the last bits.
    for (std::size_t c = 0; c < var.size(); ++c)
      var[c].magnitude += 2 * std::fabs(mean[c].value) * kEps<T> * std::fabs(mean[c].value);
    compare(name + " var", result(1), var, 16 + 6);
    compare(name + " y", result(2), y, 16 + 10);
  }
  compare(name + " y in evaluation", result(3), y_eval, 10);
  compare(name + " dweight", result(4), dw, 16 + 8);
  compare(name + " dbias", result(5), db, 16 + 4);
  compare(name + " dx", result(6), dx_train, 16 + 10);
  compare(name + " dx in evaluation", result(7), dx_eval, 6);
  if (s.inner > 1) {
    compare(name + " running mean", result(8), new_mean, 4);
    compare(name + " running var", result(9), new_var, 6);
    CHECK(device->template result<std::int64_t>(10)[0] == (s.C ? 5 : 4), name);
  }
}

TEST(batch_norms) {
  const BatchNormShape shapes[] = {
      {1, 2, 1e-5}, {3, 37, 1e-5}, {4, 1500, 0.1}, {5, 0, 1e-5}, {2, 512, 1e-3}};
  for (const BatchNormShape& s : shapes)
    for (const Activation& activation : kActivations) {
      const bool affine = activation.kind != Activation::Kind::relu;
      check_batch_norm<float>(s, activation, affine, 0);
      check_batch_norm<double>(s, activation, affine, 0);
    }
  check_batch_norm<float>({2, 700, 1e-5}, {}, true, 1000);  // a mean far from 0
}

// --- random numbers

template <typename T>
void check_dropout(std::int64_t features, std::int64_t N, double p) {
  Random random(18);
  const auto x = random.values<T>(features * N), before = random.values<T>(features * N);
  const StepState state{0x123456789abcdefULL, 7, 100, 0, 0, 0, 0};
  std::vector<T> y(x.size()), added(x.size());
  for (std::int64_t f = 0; f < features; ++f)
    for (std::int64_t n = 0; n < N; ++n) {
      const std::size_t place = at(f * N + n);
      const auto word =
          philox({state.seed, state.step, 3}, state.first_sample + static_cast<std::uint32_t>(n),
                 static_cast<std::uint32_t>(f / 4))
              .word[f % 4];
      y[place] = word < std::floor(p * 4294967296.0) || p == 1
                     ? T(0)
                     : x[place] * static_cast<T>(1 / (1 - p));
      added[place] = before[place] + y[place];
    }
  const auto device = run_alike("dropout", [&](Device& d) {
    const auto* const state_ = d.input(std::vector<StepState>{state});
    dropout(features, N, p, 3, state_, d.input(x), false, d.output<T>(features * N), d.stream());
    dropout(features, N, p, 3, state_, d.input(x), true, d.updated(before), d.stream());
  });
  compare_exactly("dropout", device->template result<T>(0), y);
  std::vector<Expected> expected;
  for (std::size_t i = 0; i < x.size(); ++i)
    expected.push_back({double(added[i]), std::fabs(double(before[i])) + std::fabs(double(y[i]))});
  compare("dropout, added", device->template result<T>(1), expected, 1);
}

TEST(dropouts) {
  for (const double p : {0.0, 0.4, 1.0})
    for (const auto& [features, N] : {std::pair{1, 1}, {13, 37}, {0, 3}, {4, 0}, {1000, 5}}) {
      check_dropout<float>(features, N, p);
      check_dropout<double>(features, N, p);
    }
}

template <typename T>
void check_drop_block(const DropBlock2dShape& s, std::int64_t N) {
  Random random(19);
  const std::int64_t features = s.C * s.H * s.W;
  const auto x = random.values<T>(features * N), before = random.values<T>(features * N);
  const StepState state{99, 3, 11, 0, 0, 0, 0};
  std::vector<T> y(x.size());
  for (std::int64_t n = 0; n < N; ++n) {
    std::vector<char> keeps(at(features), 1);
    for (std::int64_t f = 0; f < features; ++f) {
      const std::int64_t h = f / s.W % s.H, w = f % s.W;
      const auto word =
          philox({state.seed, state.step, 5}, state.first_sample + static_cast<std::uint32_t>(n),
                 static_cast<std::uint32_t>(f / 4))
              .word[f % 4];
      if (word >= s.threshold || h > s.H - s.block || w > s.W - s.block) continue;
      for (std::int64_t i = 0; i < s.block; ++i)
        for (std::int64_t j = 0; j < s.block; ++j) keeps[at(f + i * s.W + j)] = 0;
    }
    const auto kept = std::count(keeps.begin(), keeps.end(), 1);
    for (std::int64_t f = 0; f < features; ++f)
      y[at(f * N + n)] =
          keeps[at(f)] ? x[at(f * N + n)] * static_cast<T>(double(features) / double(kept)) : T(0);
  }
  const auto device = run_alike("drop_block2d", [&](Device& d) {
    void* const workspace = d.workspace(drop_block2d_workspace(s, N));
    const auto* const state_ = d.input(std::vector<StepState>{state});
    for (int twice = 0; twice < 2; ++twice)
      drop_block2d_mask(s, N, 5, state_, workspace, d.stream());
    drop_block2d(s, N, workspace, d.input(x), false, d.output<T>(features * N), d.stream());
  });
  compare_exactly("drop_block2d", device->template result<T>(0), y);
}

TEST(drop_blocks) {
  for (const DropBlock2dShape& s : {DropBlock2dShape{1, 1, 1, 1, 1ULL << 31},
                                    {2, 9, 7, 3, 1ULL << 28},
                                    {3, 5, 5, 5, 1ULL << 30},
                                    {1, 4, 4, 2, 1ULL << 32}})
    for (const std::int64_t N : {0, 1, 37}) {
      check_drop_block<float>(s, N);
      check_drop_block<double>(s, N);
    }
}

// --- optimisers

// The rules in double, element by element; returns the new p and changes the state.
double step(const SgdSettings<double>& s, double p, double g, double* first, double*) {
  if (!first) return p - s.lr * (g + s.weight_decay * p);
  g = s.gradient_factor * (g + s.weight_decay * p);
  *first = s.momentum * *first + g;
  return p - s.lr * (s.nesterov ? g + s.momentum * *first : *first);
}
double step(const AdamSettings<double>& s, double p, double g, double* first, double* second) {
  g += s.weight_decay * p;
  *first = s.beta1 * *first + s.one_minus_beta1 * g;
  *second = s.beta2 * *second + s.one_minus_beta2 * g * g;
  return s.shrink * p - s.step_size * *first / (std::sqrt(*second) * s.second_scale + s.eps);
}
double step(const RmspropSettings<double>& s, double p, double g, double* first, double* second) {
  g += s.weight_decay * p;
  *first = s.alpha * *first + s.one_minus_alpha * g * g;
  double direction = g / (std::sqrt(*first) + s.eps);
  if (second) direction = *second += direction, direction = *second;
  return p - s.lr * direction;
}

template <typename T>
SgdSettings<T> as(const SgdSettings<double>& s) {
  return {T(s.lr), T(s.momentum), T(s.gradient_factor), T(s.weight_decay), s.nesterov};
}
template <typename T>
AdamSettings<T> as(const AdamSettings<double>& s) {
  return {T(s.beta1),        T(s.beta2), T(s.one_minus_beta1), T(s.one_minus_beta2), T(s.step_size),
          T(s.second_scale), T(s.eps),   T(s.weight_decay),    T(s.shrink)};
}
template <typename T>
RmspropSettings<T> as(const RmspropSettings<double>& s) {
  return {T(s.lr), T(s.alpha), T(s.one_minus_alpha), T(s.eps), T(s.momentum), T(s.weight_decay)};
}

struct Limits {
  double value = 0, norm = 0;
};

template <typename T, template <typename> class Settings>
void check_update(const std::string& rule, const Settings<double>& of_first,
                  const Settings<double>& of_second, int states, const Limits& limits) {
  // Three parameters: one of two pieces, one in shards, one of another group; and an empty one.
  const std::int64_t sizes[] = {1500, 37, 8, 0}, shards[] = {1, 5, 1, 1};
  const std::string name = message(rule, " limits ", limits.value, " ", limits.norm);
  Random random(20);
  std::vector<std::vector<T>> p, g, first, second;
  for (int i = 0; i < 4; ++i) {
    p.push_back(random.values<T>(sizes[i]));
    g.push_back(random.values<T>(sizes[i] * shards[i]));
    first.push_back(random.values<T>(sizes[i], 0.1, 1));
    second.push_back(random.values<T>(sizes[i], 0.1, 1));
  }
  std::vector<std::vector<double>> gradients(4);
  double squares = 0;
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < p[i].size(); ++j) {
      double sum = 0;
      for (std::size_t shard = 0; shard < at(shards[i]); ++shard)
        sum += double(g[i][shard * p[i].size() + j]);
      if (limits.value > 0) sum = std::clamp(sum, -limits.value, limits.value);
      gradients[i].push_back(sum);
      squares += sum * sum;
    }
  const double norm = std::sqrt(squares);
  std::vector<std::vector<Expected>> expected;
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<Expected> of_p, of_first_state, of_second_state;
    for (std::size_t j = 0; j < p[i].size(); ++j) {
      double gradient = gradients[i][j];
      if (limits.norm > 0 && norm > limits.norm) gradient *= limits.norm / norm;
      double m = double(first[i][j]), v = double(second[i][j]);
      const double before = double(p[i][j]);
      const double after = step(i == 2 ? of_second : of_first, before, gradient,
                                states > 0 ? &m : nullptr, states > 1 ? &v : nullptr);
      of_p.push_back({after, std::fabs(before) + 8 * std::fabs(after - before) + 1});
      of_first_state.push_back({m, std::fabs(m) + 3});
      of_second_state.push_back({v, std::fabs(v) + 8});
    }
    expected.push_back(of_p);
    expected.push_back(of_first_state);
    expected.push_back(of_second_state);
  }
  for (const bool fails : {false, true}) {
    const auto device = run_alike(name, [&](Device& d) {
      std::vector<ParameterUpdate<T>> parameters(4);
      for (std::size_t i = 0; i < 4; ++i) {
        ParameterUpdate<T>& parameter = parameters[i];
        parameter.p = d.updated(p[i]);
        T *const m = d.updated(first[i]), *const v = d.updated(second[i]);
        parameter.state[0] = states > 0 ? m : nullptr;
        parameter.state[1] = states > 1 ? v : nullptr;
        parameter.g = d.input(g[i]);
        parameter.size = parameter.shard_stride = sizes[i];
        parameter.shards = static_cast<std::int32_t>(shards[i]);
        parameter.group = i == 2;
      }
      std::vector<UpdatePiece> pieces(at(update_pieces<T>(parameters.data(), 4, nullptr)));
      CHECK(pieces.size() == 4);
      update_pieces(parameters.data(), 4, pieces.data());
      UpdateTable<T> table;
      table.parameters = d.input(parameters);
      table.pieces = d.input(pieces);
      table.piece_count = count(pieces);
      table.groups = 2;
      table.clip_value = limits.value;
      StepState state{};
      state.index = 1;
      state.failed = fails;
      auto* const state_ = d.updated(std::vector<StepState>{state});
      table.advances = true;
      if (limits.norm > 0) {
        auto* const norm_ = d.updated(std::vector<double>{0});
        gradient_norm(table, norm_, state_, d.workspace(gradient_norm_workspace(table.piece_count)),
                      d.stream());
        table.clip_norm = limits.norm;
        table.norm = norm_;
      }
      const Settings<T> bad{};
      const std::vector<Settings<T>> settings{bad, bad, as<T>(of_first), as<T>(of_second)};
      update(table, d.input(settings), state_, d.stream());
    });
    for (std::size_t i = 0; i < 4; ++i) {
      const std::string which = message(name, " parameter ", i, fails ? " failed" : "");
      if (fails) {
        compare_exactly(which, device->template result<T>(3 * i), p[i]);
        compare_exactly(which, device->template result<T>(3 * i + 1), first[i]);
        compare_exactly(which, device->template result<T>(3 * i + 2), second[i]);
      } else {
        for (std::size_t k = 0; k < 3; ++k)
          compare(which, device->template result<T>(3 * i + k), expected[3 * i + k], 12);
      }
    }
    const StepState after = device->template result<StepState>(12)[0];
    CHECK(after.index == (fails ? 1 : 2) && after.step == (fails ? 0 : 1) && after.finished == 0,
          name);
    if (limits.norm > 0)
      compare(name + " norm", device->template result<double>(13), {{norm, norm}},
              (sizeof(T) == 8 ? 1545 : 16 * kEps<float> / kEps<double>));
  }
}

template <typename T>
void check_updates() {
  for (const Limits& limits :
       {Limits{}, Limits{0.3, 0}, Limits{0, 1.5}, Limits{0.3, 1.5}, Limits{0, 1e6}}) {
    const SgdSettings<double> plain{0.1, 0, 1, 0.01, false}, other{0.3, 0, 1, 0, false};
    check_update<T, SgdSettings>("sgd", plain, other, 0, limits);
    const SgdSettings<double> momentum{0.1, 0.9, 1, 0.01, false}, averaged{0.3, 0.5, 0.5, 0, true};
    check_update<T, SgdSettings>("momentum", momentum, averaged, 1, limits);
    const AdamSettings<double> adam{0.9, 0.999, 0.1, 0.001, 0.02, 1.5, 1e-8, 0.01, 1},
        adamw{0.8, 0.99, 0.2, 0.01, 0.03, 1.2, 1e-4, 0, 0.999};
    check_update<T, AdamSettings>("adam", adam, adamw, 2, limits);
    const RmspropSettings<double> rmsprop{0.01, 0.99, 0.01, 1e-8, 0, 0.01},
        heavy{0.02, 0.9, 0.1, 1e-6, 0, 0};
    check_update<T, RmspropSettings>("rmsprop", rmsprop, heavy, 1, limits);
  }
}

TEST(updates) {
  check_updates<float>();
  check_updates<double>();
}

TEST(a_norm_that_is_not_finite_fails_the_step) {
  const auto device = run_alike("norm", [&](Device& d) {
    ParameterUpdate<float> parameter;
    parameter.g = d.input(std::vector<float>{1, INFINITY});
    parameter.size = 2;
    UpdatePiece piece;
    update_pieces(&parameter, 1, &piece);
    UpdateTable<float> table;
    table.parameters = d.input(std::vector<ParameterUpdate<float>>{parameter});
    table.pieces = d.input(std::vector<UpdatePiece>{piece});
    table.piece_count = 1;
    auto* const norm = d.output<double>(1);
    gradient_norm(table, norm, d.updated(std::vector<StepState>{StepState{}}),
                  d.workspace(gradient_norm_workspace(1)), d.stream());
  });
  CHECK(device->result<StepState>(1)[0].failed == 1);
}

}  // namespace

PYNN_TEST_MAIN
