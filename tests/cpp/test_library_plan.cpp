// Operators of a library inside plans: on blocks with and without halos, and on arrays; the last
// block is not full.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "plan/plan.h"
#include "runtime/thread_pool.h"
#include "shapes/window.h"

namespace {

using pynn::AttributeValues;
using pynn::LibraryNode;
using pynn::LibraryOperator;
using pynn::Shape;

LibraryNode node(std::size_t which, std::vector<int> inputs, int y) {
  LibraryNode result;
  result.op = std::make_shared<LibraryOperator>(
      pynn::read_library(pynn_get_library(), "operators_of_others")[which]);
  auto attributes = std::make_shared<AttributeValues>();
  for (const pynn_attribute& attribute : result.op->attributes()) {
    const pynn_value& value = attribute.default_value;
    if (attribute.type == PYNN_TEXT)
      attributes->add_text(value.text);
    else if (attribute.type == PYNN_INTEGERS)
      attributes->add_integers({value.integers, value.integers + value.count});
    else
      attributes->add(value);
  }
  result.attributes = attributes;
  result.path = "here";
  result.inputs = std::move(inputs);
  result.y = y;
  result.on_blocks = result.op->has(PYNN_POINTWISE);
  return result;
}

template <typename T>
struct Results {
  std::vector<T> y, dx, dw, ds;
  bool operator==(const Results& other) const {
    return y == other.y && dx == other.dx && dw == other.dw && ds == other.ds;
  }
};

constexpr std::int64_t N = 37;
enum { kX, kScaled, kW, kConv, kAgain, kAdded, kSumW, kSum };

// x -> scale -> conv2d 3 x 3 with padding -> scale; the sum of both -> weighted_sum.
pynn::PlanGraph make_graph() {
  pynn::PlanGraph graph;
  const Shape image{N, 3, 5, 6};
  graph.shapes = {image, image, {3, 3, 3, 3}, image, image, image, {3}, {N, 1}};
  graph.stored = {0, 0, 1, 0, 0, 0, 1, 0};
  graph.needed.assign(graph.shapes.size(), 1);
  graph.inputs = {kX};
  graph.output = kSum;
  pynn::Padding padding;
  padding.sides = {1, 1, 1, 1};
  pynn::Conv2dNode conv{};
  conv.shape = pynn::conv2d_shape(image, {3, 3, 3, 3}, std::nullopt, {1, 1}, padding, {1, 1}, 1);
  conv.x = kScaled, conv.w = kW, conv.b = -1, conv.y = kConv;
  graph.nodes = {node(0, {kX}, kScaled), conv, node(0, {kConv}, kAgain),
                 pynn::AddNode{kScaled, kAgain, kAdded}, node(1, {kAdded, kSumW, -1}, kSum)};
  return graph;
}

// Two passes on memory of their own.
template <typename T>
Results<T> run(const pynn::Plan<T>& plan, T scale) {
  const auto sized = [](std::int64_t count) {
    return std::vector<T>(static_cast<std::size_t>(count));
  };
  std::vector<T> x = sized(N * 90), w = sized(81), s{1, -2, 3}, dy = sized(N);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = scale * std::sin(static_cast<T>(i));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::cos(static_cast<T>(i));
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<T>(i % 5) - 2;
  Results<T> results{sized(N), sized(N * 90), sized(81), sized(3)};
  const std::unique_ptr<pynn::Memory> memory = plan.allocate();
  for (int pass = 0; pass < 2; ++pass) {  // what the first leaves must not be seen by the second
    pynn::Run<T> run = plan.start(*memory);
    run.stored[kW] = w.data();
    run.stored[kSumW] = s.data();
    run.gradients[kW] = results.dw.data();
    run.gradients[kSumW] = results.ds.data();
    plan.set_input(run, kX, x.data());
    CHECK(plan.forward(run, 0) == 5);
    plan.read(run, kSum, results.y.data());
    plan.write_gradient(run, kSum, dy.data(), false);
    CHECK(plan.backward(run, 4) == -1);
    plan.read_gradient(run, kX, results.dx.data());
  }
  for (const T value : results.dx) CHECK(std::isfinite(value));
  for (const T value : results.dw) CHECK(std::isfinite(value));
  return results;
}

template <typename T>
Results<T> run(int threads) {
  pynn::set_num_threads(threads);
  const pynn::Plan<T> plan(make_graph());
  CHECK(plan.may_fail());
  return run<T>(plan, 1);
}

template <typename T>
void threads_agree() {
  const Results<T> one = run<T>(1);
  CHECK(run<T>(2) == one);
  CHECK(run<T>(5) == one);
}

template <typename T>
void callers_agree() {
  pynn::set_num_threads(2);
  const pynn::Plan<T> plan(make_graph());
  const std::vector<Results<T>> alone{run<T>(plan, 1), run<T>(plan, -2)};
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < alone.size(); ++caller)
    callers.emplace_back([&plan, &alone, caller] {
      for (int i = 0; i < 10; ++i)
        CHECK(run<T>(plan, static_cast<T>(caller == 0 ? 1 : -2)) == alone[caller], caller, i);
    });
  for (std::thread& caller : callers) caller.join();
}

TEST(plans_give_the_same_bits_on_any_number_of_threads) {
  threads_agree<float>();
  threads_agree<double>();
}

TEST(several_callers_run_one_plan_at_once) {
  callers_agree<float>();
  callers_agree<double>();
}

}  // namespace

PYNN_TEST_MAIN
