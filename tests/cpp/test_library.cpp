// Operators of a library at the border. Built twice: with the ABI that the library was built
// against, and with a later one, in which every struct that may grow has grown.
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "host/host.h"
#include "host/library_operator.h"
#include "runtime/thread_pool.h"

namespace {

using pynn::AttributeValues;
using pynn::LibraryOperator;
using pynn::OperatorArrays;
using pynn::Shape;

std::vector<LibraryOperator> operators() {
  return pynn::read_library(pynn_get_library(), "operators_of_others");
}

AttributeValues defaults(const LibraryOperator& op) {
  AttributeValues values;
  for (const pynn_attribute& attribute : op.attributes()) {
    const pynn_value& value = attribute.default_value;
    if (attribute.type == PYNN_TEXT)
      values.add_text(value.text);
    else if (attribute.type == PYNN_INTEGERS)
      values.add_integers({value.integers, value.integers + value.count});
    else
      values.add(value);
  }
  return values;
}

template <typename T>
constexpr std::int32_t kType = sizeof(T) == 8 ? PYNN_FLOAT64 : PYNN_FLOAT32;

TEST(a_library_describes_its_operators) {
  const auto ops = operators();
  CHECK(ops.size() == 2);
  const LibraryOperator &scale = ops[0], &sum = ops[1];
  CHECK(scale.name() == "scale" && std::string(scale.doc()) == "factor x");
  CHECK(scale.has(PYNN_POINTWISE) && scale.has(PYNN_BACKWARD_NEVER_FAILS));
  CHECK(scale.samples().size() == 1 && std::string(scale.samples()[0].shapes) == "(3, 4)");
  CHECK(scale.attributes()[0].default_value.real == 3);
  CHECK(sum.inputs().size() == 3 && sum.is_parameter(1) && !sum.is_parameter(0));
  CHECK(!sum.has(PYNN_BACKWARD_NEVER_FAILS) && sum.per_sample() && !sum.reads_inputs());
  CHECK(sum.attributes().size() == 4);
  CHECK(std::string(sum.attributes()[2].default_value.text) == "sum");
  CHECK(sum.attributes()[3].default_value.count == 2);
}

template <typename T>
void pointwise(int threads) {
  pynn::set_num_threads(threads);
  const auto ops = operators();
  const LibraryOperator& scale = ops[0];
  const AttributeValues attributes = defaults(scale);
  const Shape shape{7, 11, 401};
  const auto shapes = scale.shapes({shape}, attributes);
  const auto count = static_cast<std::size_t>(shapes.y.count());
  std::vector<T> x(count), y(count), dx(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<T>(i);
  OperatorArrays arrays;
  arrays.inputs[0] = x.data();
  arrays.y = y.data();
  scale.forward(shapes, attributes, kType<T>, arrays);
  arrays.dy = y.data();
  arrays.gradients[0] = dx.data();
  scale.backward(shapes, attributes, kType<T>, arrays);
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(y[i] == 3 * x[i], i);
    CHECK(dx[i] == 9 * x[i], i);
  }
}

TEST(pointwise_in_pieces) {
  for (const int threads : {1, 4}) {
    pointwise<float>(threads);
    pointwise<double>(threads);
  }
}

template <typename T>
void arrays_with_memory() {
  const auto ops = operators();
  const LibraryOperator& sum = ops[1];
  const AttributeValues attributes = defaults(sum);
  const std::int64_t N = 6, C = 3, pixels = 20;
  const auto shapes = sum.shapes({Shape{N, C, 4, 5}, Shape{C}, Shape{1}}, attributes);
  CHECK(shapes.y.sizes == (Shape{N, 1}));
  const pynn::OperatorMemory memory = sum.memory(shapes, attributes, kType<T>);
  CHECK(memory.saved == N * C * static_cast<std::int64_t>(sizeof(T)));
  CHECK(memory.forward == N * static_cast<std::int64_t>(sizeof(T)));
  const auto sized = [](std::int64_t count) {
    return std::vector<T>(static_cast<std::size_t>(count));
  };
  std::vector<T> x = sized(N * C * pixels), w{1, 2, 3}, b{10}, y = sized(N), saved = sized(N * C);
  std::vector<T> workspace = sized(N), dy = sized(N), dx = x, dw = sized(C), db = sized(1);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i % 7);
  for (std::size_t n = 0; n < dy.size(); ++n) dy[n] = static_cast<T>(n + 1);
  OperatorArrays arrays;
  arrays.inputs = {x.data(), w.data(), b.data()};
  arrays.y = y.data();
  arrays.saved = saved.data();
  arrays.workspace = workspace.data();
  sum.forward(shapes, attributes, kType<T>, arrays);
  arrays.dy = dy.data();
  arrays.gradients = {dx.data(), dw.data(), db.data()};
  sum.backward(shapes, attributes, kType<T>, arrays);
  std::vector<T> expected_dw = sized(C);
  for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
    T expected = b[0];
    for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) {
      T channel = 0;
      for (std::size_t k = 0; k < static_cast<std::size_t>(pixels); ++k)
        channel += x[(n * static_cast<std::size_t>(C) + c) * static_cast<std::size_t>(pixels) + k];
      expected += w[c] * channel;
      expected_dw[c] += dy[n] * channel;
    }
    CHECK(y[n] == expected, n, y[n], expected);
  }
  CHECK(dw == expected_dw);
  CHECK(db[0] == 21);
  CHECK(dx[0] == 1 && dx.back() == 6);
}

TEST(arrays_workspace_and_saved_memory) {
  for (const int threads : {1, 3}) {
    pynn::set_num_threads(threads);
    arrays_with_memory<float>();
    arrays_with_memory<double>();
  }
}

template <typename Error, typename Function>
void refused(const char* words, const Function& function) {
  try {
    function();
    CHECK(false, "not refused:", words);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(words) != std::string::npos, error.what());
  }
}

TEST(errors_cross_the_border_as_text) {
  const auto ops = operators();
  const LibraryOperator& sum = ops[1];
  const AttributeValues attributes = defaults(sum);
  refused<pynn::ShapeError>("weighted_sum: x must have four axes",
                            [&] { sum.shapes({Shape{2, 3}, Shape{3}, std::nullopt}, attributes); });
  refused<pynn::ShapeError>("w must be an array, got None", [&] {
    sum.shapes({Shape{2, 3, 4, 4}, std::nullopt, std::nullopt}, attributes);
  });
  AttributeValues other;
  for (int i = 0; i < 2; ++i) other.add({1, 0, nullptr, nullptr, 0});
  other.add_text("mean");
  other.add_integers({});
  refused<std::invalid_argument>("weighted_sum: mode must be sum, got mean", [&] {
    sum.shapes({Shape{2, 3, 4, 4}, Shape{3}, std::nullopt}, other);
  });
}

TEST(a_newer_library_is_refused_before_anything_else_is_read) {
  struct {
    std::uint32_t version = PYNN_ABI_VERSION + 1;
  } newer;
  refused<pynn::LibraryError>("upgrade pynn-core", [&] {
    pynn::read_library(reinterpret_cast<const pynn_library*>(&newer), "newer");
  });
}

TEST(the_host_checks_sizes) {
  const pynn_host& host = pynn::host();
  pynn_gemm product{};
  product.size = sizeof product;
  product.M = -1;
  product.dtype = PYNN_FLOAT32;
  CHECK(host.gemm(&product) == PYNN_VALUE_ERROR);
  CHECK(std::string(host.last_error()).find("must not be negative") != std::string::npos);
  pynn_conv2d conv{};
  conv.size = sizeof conv;
  conv.groups = 2;
  conv.C = 3;
  CHECK(host.conv2d(&conv, nullptr, nullptr, nullptr, nullptr) == PYNN_VALUE_ERROR);
  product.M = 1;
  product.dtype = 9;
  CHECK(host.gemm(&product) == PYNN_VALUE_ERROR);
}

TEST(what_the_host_computes) {
  const pynn_host& host = pynn::host();
  const std::int64_t count = 1000;
  std::vector<double> x(count), y(count);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.01 * static_cast<double>(i) - 4;
  const auto compare = [&](const char* name, auto function, auto expected) {
    function(PYNN_FLOAT64, count, x.data(), y.data());
    for (std::size_t i = 0; i < x.size(); ++i)
      CHECK(std::abs(y[i] - expected(x[i])) <= 1e-14 * (1 + std::abs(expected(x[i]))), name, x[i]);
  };
  compare("exp", host.exp, [](double v) { return std::exp(v); });
  compare("tanh", host.tanh, [](double v) { return std::tanh(v); });
  compare("sigmoid", host.sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); });
  compare("relu", host.relu, [](double v) { return v > 0 ? v : 0; });
  for (double& v : x) v += 5;
  compare("log", host.log, [](double v) { return std::log(v); });

  const double a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
  double c[] = {1, 1, 1, 1};
  pynn_gemm product{sizeof product, 2, 2, 2, a, 2, 1, b, 1, 2, c, 2, PYNN_FLOAT64, 1};
  CHECK(host.gemm(&product) == PYNN_OK);  // c += a b^T
  CHECK(c[0] == 18 && c[1] == 24 && c[2] == 40 && c[3] == 54);

  std::vector<std::uint32_t> all(40), part(17);
  const pynn_random random{7, 1, 2, 3, 0};
  host.random_words(&random, 4, 0, 40, all.data());
  host.random_words(&random, 4, 5, 17, part.data());
  CHECK(std::equal(part.begin(), part.end(), all.begin() + 5));
}

#ifdef PYNN_LATER
TEST(the_later_abi_is_one) {
  CHECK(PYNN_ABI_VERSION == 2);
  CHECK(pynn_get_library()->abi_version == 1);
  CHECK(pynn_get_library()->size < sizeof(pynn_library));
  CHECK(pynn_get_library()->operators[0]->size < sizeof(pynn_operator));
}
#endif

}  // namespace

PYNN_TEST_MAIN
