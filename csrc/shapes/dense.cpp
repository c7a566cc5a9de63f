#include "shapes/dense.h"

#include <algorithm>

namespace pynn {
namespace {

constexpr std::int64_t kMostElements = std::int64_t{1} << 59;  // of 8 bytes; NumPy allows no more

}  // namespace

void check_sizes(const char* name, const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) throw ShapeError(message(name, " has a negative size: ", shape));
    if (size == 0) continue;
    if (count > kMostElements / size) throw ShapeError(message(name, " is too large: ", shape));
    count *= size;
  }
}

Shape broadcast_leading(const Shape& a, const Shape& b, const Shape& whole_a,
                        const Shape& whole_b) {
  Shape result(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < result.size(); ++i) {  // from the last axis
    const std::int64_t from_a = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t from_b = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (from_a != from_b && from_a != 1 && from_b != 1)
      throw ShapeError(message("matmul: the leading axes of shapes ", whole_a, " and ", whole_b,
                               " do not broadcast"));
    result[result.size() - 1 - i] = from_a == 1 ? from_b : from_a;
  }
  return result;
}

Shape matmul_shape(const Shape& a, const Shape& b) {
  check_sizes("a", a);
  check_sizes("b", b);
  if (a.size() < 2 || b.size() < 2)
    throw ShapeError(
        message("matmul: a and b must have at least 2 dimensions (shapes ", a, " and ", b, ")"));
  const std::int64_t columns = a.back(), rows = b[b.size() - 2];
  if (columns != rows)
    throw ShapeError(message("matmul: a has ", columns, " columns but b has ", rows,
                             " rows (shapes ", a, " and ", b, ")"));
  Shape y = broadcast_leading(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2), a, b);
  y.push_back(a[a.size() - 2]);
  y.push_back(b.back());
  check_sizes("the product", y);
  return y;
}

Shape linear_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b) {
  check_sizes("x", x);
  check_sizes("w", w);
  if (w.size() != 2)
    throw ShapeError(message("w must have shape (out_features, in_features), got ", w));
  if (x.size() < 2)
    throw ShapeError(message("expected an input of shape (N, ..., ", w[1], "), got shape ", x));
  if (x.back() != w[1])
    throw ShapeError(message("expected ", w[1], " input features, got ", x.back(), " (input shape ",
                             x, ")", x.size() > 2 ? "; is a Flatten missing before it?" : ""));
  if (b && *b != Shape{w[0]})
    throw ShapeError(message("b must have shape ", Shape{w[0]}, ", got ", *b));
  Shape y = x;
  y.back() = w[0];
  check_sizes("the output", y);
  return y;
}

Shape bias_shape(const Shape& x, const Shape& b) {
  check_sizes("x", x);
  check_sizes("bias", b);
  if (x.empty()) throw ShapeError("expected an input of shape (N, ...), got shape ()");
  const Shape sample(x.begin() + 1, x.end());
  if (b != sample) throw ShapeError(message("bias must have shape ", sample, ", got ", b));
  return x;
}

}  // namespace pynn
