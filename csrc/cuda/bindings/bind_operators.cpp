// The operators on arrays of the host, by the names and arguments of pynn._core: each call copies
// to the device and back. Graphs run as plans (bind_plan.cpp); this is for single calls.
#include <algorithm>
#include <array>
#include <cstring>

#include "bindings/arrays.h"
#include "bindings/labels.h"
#include "bindings/random.h"
#include "bindings/reduction.h"
#include "bindings/update_settings.h"
#include "bindings/window_arguments.h"
#include "cuda/bindings/bindings.h"
#include "cuda/kernels/cross_entropy.h"
#include "cuda/kernels/max_pool2d.h"
#include "cuda/kernels/mse_loss.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/plan/operations.h"
#include "cuda/plan/transfer.h"
#include "cuda/runtime/session.h"
#include "shapes/broadcast.h"
#include "shapes/dense.h"
#include "shapes/normalisation.h"
#include "shapes/window.h"

namespace pynn::cuda {
namespace {

// An operand of a call: an array, or, where backward does not read it, its shape alone.
struct Operand {
  Operand() = default;
  Operand(const py::array& a, bool lies_raw = false)  // NOLINT: an array is an operand
      : array(&a), shape(shape_of(a)), raw(lies_raw), present(true) {}
  Operand(const std::optional<py::array>& a, bool lies_raw) {
    if (a) *this = Operand(*a, lies_raw);
  }
  static Operand unread(Shape shape, bool lies_raw = false) {
    Operand operand;
    operand.shape = std::move(shape);
    operand.raw = lies_raw;
    operand.present = true;
    return operand;
  }

  const py::array* array = nullptr;
  Shape shape;
  bool raw = false, present = false;
};

// Memory of one call.
template <typename T>
class Bench {
 public:
  char* bytes(std::int64_t size) {
    memory_.emplace_back(std::max<std::int64_t>(size, 256));
    return memory_.back().data();
  }
  T* room(std::int64_t count) { return reinterpret_cast<T*>(bytes(bytes_of<T>(count))); }
  T* put(const py::array& array, bool raw) {
    T* const to = room(array.size());
    if (raw)
      Transfer<T>::raw_to_device(array.size(), data<T>(array), to);
    else
      transfer_.to_device(samples_of(shape_of(array)), data<T>(array), to);
    return to;
  }
  T* put(const Operand& operand) {
    if (!operand.present) return nullptr;
    return operand.array ? put(*operand.array, operand.raw) : room(1);
  }
  py::array get(const T* from, const Shape& shape, bool raw) {
    py::array_t<T> array(shape);
    if (raw)
      Transfer<T>::raw_to_host(array.size(), from, array.mutable_data());
    else
      transfer_.to_host(samples_of(shape), from, array.mutable_data());
    return std::move(array);
  }
  StepState* state(std::uint64_t seed, std::int64_t step, std::int64_t first_sample) {
    StepState state{};
    state.seed = seed;
    state.step = low_word(step);
    state.first_sample = low_word(first_sample);
    char* const to = bytes(sizeof state);
    copy_to_device(to, &state, sizeof state);
    return reinterpret_cast<StepState*>(to);
  }

 private:
  std::vector<DeviceMemory> memory_;
  Transfer<T> transfer_;
};

// y, by an operation on these operands.
template <typename T>
T* run_forward(Bench<T>& bench, const Operation<T>& operation, const std::vector<Operand>& operands,
               std::int64_t count, Call<T>& c) {
  c.stream = stream();
  for (const Operand& operand : operands) c.inputs.push_back(bench.put(operand));
  c.y = bench.room(count);
  c.saved = bench.bytes(operation.saved_bytes());
  c.scratch = bench.bytes(operation.forward_scratch());
  operation.forward(c);
  return c.y;
}

// `make(T{})` gives the operation.
template <typename Make>
py::array forward(const std::vector<Operand>& operands, const Shape& y, bool raw,
                  const Make& make) {
  return by_dtype(*operands[0].array, [&](auto zero) {
    using T = decltype(zero);
    const OperationPointer<T> operation = make(zero);
    Bench<T> bench;
    Call<T> c;
    return bench.get(run_forward(bench, *operation, operands, element_count(y), c), y, raw);
  });
}

using Gradients = std::vector<std::optional<py::array>>;

// The gradients of operands, given dy; y and what forward saved where backward reads them.
template <typename Make>
Gradients backward(const Operand& dy, const std::vector<Operand>& operands,
                   const std::vector<bool>& needs, const py::array* y, const Make& make,
                   const std::vector<const py::array*>& saved = {}) {
  return by_dtype(*dy.array, [&](auto zero) {
    using T = decltype(zero);
    const OperationPointer<T> operation = make(zero);
    Bench<T> bench;
    Call<T> c;
    c.stream = stream();
    for (const Operand& operand : operands) c.inputs.push_back(bench.put(operand));
    c.dy = bench.put(*dy.array, dy.raw);
    c.y = y ? bench.put(*y, dy.raw) : nullptr;
    c.saved = bench.bytes(operation->saved_bytes());
    std::int64_t at = 0;
    for (const py::array* part : saved) {
      Transfer<T>::raw_to_device(part->size(), data<T>(*part), reinterpret_cast<T*>(c.saved + at));
      at += bytes_of<T>(part->size());
    }
    c.scratch = bench.bytes(operation->backward_scratch());
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const bool wanted = i < needs.size() && needs[i] && operands[i].present;
      c.gradients.push_back(wanted ? bench.room(element_count(operands[i].shape)) : nullptr);
      c.add.push_back(0);
      c.in_shards.push_back(0);
    }
    operation->backward(c);
    Gradients result(operands.size());
    for (std::size_t i = 0; i < operands.size(); ++i)
      if (c.gradients[i]) result[i] = bench.get(c.gradients[i], operands[i].shape, operands[i].raw);
    return result;
  });
}

template <std::size_t count>
std::vector<bool> wanted(const std::array<bool, count>& needs) {
  return std::vector<bool>(needs.begin(), needs.end());
}

py::object object_of(const std::optional<py::array>& array) {
  return array ? py::object(*array) : py::object(py::none());
}

// Activations and softmax

template <typename Make>
py::array pointwise(py::handle x_object, const Make& make) {
  const py::array x = dense("x", x_object);
  return forward({{x, true}}, shape_of(x), true,
                 [&](auto zero) { return make(zero, shape_of(x)); });
}

// `kept` is x or y, as `name` says.
template <typename Make>
py::array pointwise_backward(py::handle dy_object, const char* name, py::handle kept_object,
                             bool raw, const Make& make) {
  const py::array kept = dense(name, kept_object);
  const py::array dy = dense_as("dy", dy_object, kept);
  require_shape("dy", dy, shape_of(kept));
  return *backward({dy, raw}, {{kept, raw}}, {true}, &kept,
                   [&](auto zero) { return make(zero, shape_of(kept)); })[0];
}

auto make_plain(Activation::Kind kind, double slope = 0) {
  return [kind, slope](auto zero, const Shape& x) {
    return make_activation<decltype(zero)>({kind, slope}, x);
  };
}

auto make_shares(std::int64_t axis, bool logarithm) {
  return [axis, logarithm](auto zero, const Shape& x) {
    return make_softmax<decltype(zero)>(x, axis, logarithm);
  };
}

py::array shares(py::handle x_object, std::int64_t axis, bool logarithm) {
  const py::array x = dense("x", x_object);
  checked_axis(axis, shape_of(x));
  const auto make = make_shares(axis, logarithm);
  return forward({{x, false}}, shape_of(x), false,
                 [&](auto zero) { return make(zero, shape_of(x)); });
}

py::array shares_backward(py::handle dy, py::handle y, std::int64_t axis, bool logarithm) {
  checked_axis(axis, shape_of(dense("y", y)));
  return pointwise_backward(dy, "y", y, false, make_shares(axis, logarithm));
}

void bind_activations(py::module_& m) {
  using namespace py::literals;
  const std::pair<const char*, Activation::Kind> plain[] = {{"relu", Activation::Kind::relu},
                                                            {"sigmoid", Activation::Kind::sigmoid},
                                                            {"tanh", Activation::Kind::tanh}};
  for (const auto& [name, of_kind] : plain) {
    const Activation::Kind kind = of_kind;
    m.def(name, [kind](py::handle x) { return pointwise(x, make_plain(kind)); }, "x"_a);
    m.def((std::string(name) + "_backward").c_str(),
          [kind](py::handle dy, py::handle y) {
            return pointwise_backward(dy, "y", y, true, make_plain(kind));
          },
          "dy"_a, "y"_a);
  }
  m.def(
      "leaky_relu",
      [](py::handle x, double slope) {
        return pointwise(x, make_plain(Activation::Kind::leaky_relu, slope));
      },
      "x"_a, "negative_slope"_a);
  m.def(
      "leaky_relu_backward",
      [](py::handle dy, py::handle x, double slope) {
        return pointwise_backward(dy, "x", x, true,
                                  make_plain(Activation::Kind::leaky_relu, slope));
      },
      "dy"_a, "x"_a, "negative_slope"_a);
  for (const bool logarithm : {false, true}) {
    const std::string name = logarithm ? "log_softmax" : "softmax";
    m.def(
        name.c_str(),
        [logarithm](py::handle x, std::int64_t axis) { return shares(x, axis, logarithm); }, "x"_a,
        "axis"_a);
    m.def((name + "_backward").c_str(),
          [logarithm](py::handle dy, py::handle y, std::int64_t axis) {
            return shares_backward(dy, y, axis, logarithm);
          },
          "dy"_a, "y"_a, "axis"_a);
  }
}

// Products

Conv2dShape to_conv2d_shape(const Shape& x, const Shape& w, const std::optional<Shape>& b,
                            py::handle stride, py::handle padding, py::handle dilation,
                            std::int64_t groups) {
  return conv2d_shape(x, w, b, to_pair("stride", stride), to_padding(padding),
                      to_pair("dilation", dilation), groups);
}

py::array conv2d(py::handle x_object, py::handle w_object, py::handle b_object, py::handle stride,
                 py::handle padding, py::handle dilation, std::int64_t groups) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Conv2dShape s = to_conv2d_shape(shape_of(x), shape_of(w), optional_shape(b), stride,
                                        padding, dilation, groups);
  return forward({x, {w, true}, {b, true}}, output_shape(s), false,
                 [&](auto zero) { return make_conv2d<decltype(zero)>(s, Precision::fp32); });
}

py::tuple conv2d_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups, std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Conv2dShape s =
      to_conv2d_shape(shape_of(x), shape_of(w), std::nullopt, stride, padding, dilation, groups);
  require_shape("dy", dy, output_shape(s));
  const Gradients g =
      backward(dy, {x, {w, true}, Operand::unread({s.O}, true)}, wanted(needs), nullptr,
               [&](auto zero) { return make_conv2d<decltype(zero)>(s, Precision::fp32); });
  return py::make_tuple(object_of(g[0]), object_of(g[1]), object_of(g[2]));
}

py::array linear(py::handle x_object, py::handle w_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Shape y = linear_shape(shape_of(x), shape_of(w), optional_shape(b));
  return forward({x, {w, true}, {b, true}}, y, false, [&](auto zero) {
    return make_linear<decltype(zero)>(shape_of(x), shape_of(w), Precision::fp32);
  });
}

py::tuple linear_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  require_shape("dy", dy, linear_shape(shape_of(x), shape_of(w), std::nullopt));
  const Gradients g =
      backward(dy, {x, {w, true}, Operand::unread({w.shape(0)}, true)}, wanted(needs), nullptr,
               [&](auto zero) {
                 return make_linear<decltype(zero)>(shape_of(x), shape_of(w), Precision::fp32);
               });
  return py::make_tuple(object_of(g[0]), object_of(g[1]), object_of(g[2]));
}

auto make_product(const py::array& a, const py::array& b) {
  return [&](auto zero) {
    return make_matmul<decltype(zero)>(shape_of(a), true, shape_of(b), true, Precision::fp32);
  };
}

py::array matmul(py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  return forward({{a, true}, {b, true}}, matmul_shape(shape_of(a), shape_of(b)), true,
                 make_product(a, b));
}

py::tuple matmul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                          std::array<bool, 2> needs) {
  const py::array a = dense("a", a_object);
  const py::array b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  require_shape("dy", dy, matmul_shape(shape_of(a), shape_of(b)));
  const Gradients g =
      backward({dy, true}, {{a, true}, {b, true}}, wanted(needs), nullptr, make_product(a, b));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::array bias(py::handle x_object, py::handle b_object) {
  const py::array x = dense("x", x_object);
  const py::array b = dense_as("b", b_object, x);
  return forward({x, {b, true}}, bias_shape(shape_of(x), shape_of(b)), false,
                 [&](auto zero) { return make_bias<decltype(zero)>(shape_of(x)); });
}

py::tuple bias_backward(py::handle dy_object, std::array<bool, 2> needs) {
  const py::array dy = dense("dy", dy_object);
  const Shape shape = shape_of(dy);
  if (shape.empty()) throw ShapeError("expected dy of shape (N, ...), got shape ()");
  const Shape sample(shape.begin() + 1, shape.end());
  const Gradients g =
      backward(dy, {Operand::unread(shape), Operand::unread(sample, true)}, wanted(needs), nullptr,
               [&](auto zero) { return make_bias<decltype(zero)>(shape); });
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

void bind_products(py::module_& m) {
  using namespace py::literals;
  constexpr std::array<bool, 3> kAll{true, true, true};
  constexpr std::array<bool, 2> kBoth{true, true};
  m.def("conv2d", &conv2d, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  m.def("conv2d_backward", &conv2d_backward, "dy"_a, "x"_a, "w"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a, "needs"_a = kAll);
  m.def("linear", &linear, "x"_a, "w"_a, "b"_a);
  m.def("linear_backward", &linear_backward, "dy"_a, "x"_a, "w"_a, "needs"_a = kAll);
  m.def("matmul", &matmul, "a"_a, "b"_a);
  m.def("matmul_backward", &matmul_backward, "dy"_a, "a"_a, "b"_a, "needs"_a = kBoth);
  m.def("bias", &bias, "x"_a, "b"_a);
  m.def("bias_backward", &bias_backward, "dy"_a, "needs"_a = kBoth);
}

// Pools and padding

template <typename T, typename Code>
void indices_of(const Window& w, const Shape& x, Bench<T>& bench, const char* saved,
                py::array_t<std::int64_t>& argmax) {
  const std::int64_t planes = x[1], N = x[0], positions = planes * w.OH * w.OW;
  auto* const device =
      reinterpret_cast<std::int64_t*>(bench.bytes(bytes_of<std::int64_t>(N * positions)));
  max_pool2d_indices(w, planes, N, reinterpret_cast<const Code*>(saved), device, stream());
  std::vector<std::int64_t> columns(static_cast<std::size_t>(N * positions));
  copy_to_host(columns.data(), device, static_cast<std::int64_t>(columns.size() * 8));
  std::int64_t* const to = argmax.mutable_data();
  for (std::int64_t p = 0; p < positions; ++p)
    for (std::int64_t n = 0; n < N; ++n)
      to[n * positions + p] = columns[static_cast<std::size_t>(p * N + n)];
}

py::tuple max_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode) {
  const py::array x = dense("x", x_object);
  const Shape x_shape = shape_of(x);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  const Shape y_shape = output_shape(x_shape, w);
  py::array_t<std::int64_t> argmax(y_shape);
  py::array y = by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const OperationPointer<T> operation = make_max_pool2d<T>(w, x_shape);
    Bench<T> bench;
    Call<T> c;
    run_forward(bench, *operation, {x}, element_count(y_shape), c);
    if (w.KH * w.KW <= 256)
      indices_of<T, std::uint8_t>(w, x_shape, bench, c.saved, argmax);
    else
      indices_of<T, std::int32_t>(w, x_shape, bench, c.saved, argmax);
    return bench.get(c.y, y_shape, false);
  });
  return py::make_tuple(y, argmax);
}

py::array avg_pool2d(py::handle x_object, py::handle kernel_size, py::handle stride,
                     py::handle padding, bool ceil_mode, bool count_include_pad) {
  const py::array x = dense("x", x_object);
  const Shape shape = shape_of(x);
  const Window w = to_pool2d_window(shape, kernel_size, stride, padding, ceil_mode);
  return forward({x}, output_shape(shape, w), false, [&](auto zero) {
    return make_avg_pool2d<decltype(zero)>(w, count_include_pad, shape);
  });
}

py::array avg_pool2d_backward(py::handle dy_object, const Shape& x_shape, py::handle kernel_size,
                              py::handle stride, py::handle padding, bool ceil_mode,
                              bool count_include_pad) {
  const py::array dy = dense("dy", dy_object);
  const Window w = to_pool2d_window(x_shape, kernel_size, stride, padding, ceil_mode);
  require_shape("dy", dy, output_shape(x_shape, w));
  return *backward(dy, {Operand::unread(x_shape)}, {true}, nullptr, [&](auto zero) {
    return make_avg_pool2d<decltype(zero)>(w, count_include_pad, x_shape);
  })[0];
}

py::array global_avg_pool2d(py::handle x_object) {
  const py::array x = dense("x", x_object);
  const Shape shape = shape_of(x);
  return forward({x}, global_avg_pool2d_shape(shape), false,
                 [&](auto zero) { return make_global_avg_pool2d<decltype(zero)>(shape); });
}

py::array global_avg_pool2d_backward(py::handle dy_object, const Shape& x_shape) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, global_avg_pool2d_shape(x_shape));
  return *backward(dy, {Operand::unread(x_shape)}, {true}, nullptr,
                   [&](auto zero) { return make_global_avg_pool2d<decltype(zero)>(x_shape); })[0];
}

Sides to_sides(py::handle padding) {
  const Padding p = to_padding(padding);
  if (p.kind != Padding::Kind::sides)
    throw ShapeError("padding must be an int, (rows, columns) or (top, bottom, left, right)");
  return {p.sides[0], p.sides[1], p.sides[2], p.sides[3]};
}

py::array pad2d(py::handle x_object, py::handle padding, double value) {
  const py::array x = dense("x", x_object);
  const Sides sides = to_sides(padding);
  return forward({x}, pad2d_shape(shape_of(x), sides), false,
                 [&](auto zero) { return make_pad2d<decltype(zero)>(shape_of(x), sides, value); });
}

py::array pad2d_backward(py::handle dy_object, py::handle padding) {
  const py::array dy = dense("dy", dy_object);
  const Sides sides = to_sides(padding);
  const Shape x = pad2d_inverse_shape(shape_of(dy), sides);
  return *backward(dy, {Operand::unread(x)}, {true}, nullptr,
                   [&](auto zero) { return make_pad2d<decltype(zero)>(x, sides, 0); })[0];
}

void bind_pools(py::module_& m) {
  using namespace py::literals;
  m.def("max_pool2d", &max_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a);
  m.def("avg_pool2d", &avg_pool2d, "x"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a,
        "count_include_pad"_a);
  m.def("avg_pool2d_backward", &avg_pool2d_backward, "dy"_a, "x_shape"_a, "kernel_size"_a,
        "stride"_a, "padding"_a, "ceil_mode"_a, "count_include_pad"_a);
  m.def("global_avg_pool2d", &global_avg_pool2d, "x"_a);
  m.def("global_avg_pool2d_backward", &global_avg_pool2d_backward, "dy"_a, "x_shape"_a);
  m.def("pad2d", &pad2d, "x"_a, "padding"_a, "value"_a);
  m.def("pad2d_backward", &pad2d_backward, "dy"_a, "padding"_a);
}

// Random

template <typename Make>
py::array random_forward(const py::array& x, std::uint64_t seed, std::int64_t step,
                         std::int64_t first_sample, const Make& make) {
  return by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    if (x.size() == 0) return empty(shape_of(x), x);
    const OperationPointer<T> operation = make(zero);
    Bench<T> bench;
    Call<T> c;
    c.state = bench.state(seed, step, first_sample);
    return bench.get(run_forward(bench, *operation, {x}, x.size(), c), shape_of(x), false);
  });
}

py::array dropout_of(py::handle x_object, double p, std::uint64_t seed, std::int64_t step,
                     std::int64_t node, std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  check_probability(p);
  return random_forward(x, seed, step, first_sample, [&](auto zero) {
    return make_dropout<decltype(zero)>(shape_of(x), p, low_word(node));
  });
}

py::array drop_block2d_of(py::handle x_object, double p, std::int64_t block_size,
                          std::uint64_t seed, std::int64_t step, std::int64_t node,
                          std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  drop_block2d_shape(shape_of(x), p, block_size);
  return random_forward(x, seed, step, first_sample, [&](auto zero) {
    return make_drop_block2d<decltype(zero)>(shape_of(x), p, block_size, low_word(node));
  });
}

// Normalisation

py::tuple batch_norm(py::handle x_object, py::handle running_mean_object,
                     py::handle running_var_object, py::handle weight_object,
                     py::handle bias_object, bool training, double eps) {
  const py::array x = dense("x", x_object);
  const auto running_mean = optional_dense_as("running_mean", running_mean_object, x);
  const auto running_var = optional_dense_as("running_var", running_var_object, x);
  const auto weight = optional_dense_as("weight", weight_object, x);
  const auto bias = optional_dense_as("bias", bias_object, x);
  const Shape shape =
      batch_norm_shape(shape_of(x), optional_shape(running_mean), optional_shape(running_var),
                       optional_shape(weight), optional_shape(bias), training);
  const Shape channels{shape[1]};
  return by_dtype(x, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    if (x.size() == 0) {
      py::array_t<T> zeros(channels);
      std::fill(zeros.mutable_data(), zeros.mutable_data() + zeros.size(), T(0));
      return py::make_tuple(empty(shape, x), training ? py::array(zeros) : *running_mean,
                            training ? py::array(zeros.attr("copy")()) : *running_var);
    }
    const OperationPointer<T> operation = make_batch_norm<T>(shape, training, 0, eps);
    Bench<T> bench;
    Call<T> c;
    run_forward(bench, *operation,
                {x, {running_mean, true}, {running_var, true}, {weight, true}, {bias, true}},
                x.size(), c);
    const py::array y = bench.get(c.y, shape, false);
    if (!training)
      return py::make_tuple(y, running_mean->attr("copy")(), running_var->attr("copy")());
    const T* const mean = reinterpret_cast<const T*>(c.saved);
    const T* const var = reinterpret_cast<const T*>(c.saved + bytes_of<T>(shape[1]));
    return py::make_tuple(y, bench.get(mean, channels, true), bench.get(var, channels, true));
  });
}

py::tuple batch_norm_backward(py::handle dy_object, py::handle x_object, py::handle mean_object,
                              py::handle var_object, py::handle weight_object, bool training,
                              double eps, const std::array<bool, 3>& needs) {
  const py::array x = dense("x", x_object);
  const py::array dy = dense_as("dy", dy_object, x);
  const py::array mean = dense_as("mean", mean_object, x), var = dense_as("var", var_object, x);
  const auto weight = optional_dense_as("weight", weight_object, x);
  const Shape shape = batch_norm_shape(shape_of(x), shape_of(mean), shape_of(var),
                                       optional_shape(weight), std::nullopt, training);
  require_shape("dy", dy, shape);
  const Shape channels{shape[1]};
  if (x.size() == 0) {
    const auto zeros = [&](bool wanted, const Shape& of) -> py::object {
      if (!wanted) return py::none();
      py::array made = empty(of, x);
      std::memset(made.mutable_data(), 0, static_cast<std::size_t>(made.nbytes()));
      return made;
    };
    return py::make_tuple(zeros(needs[0], shape), zeros(needs[1], channels),
                          zeros(needs[2], channels));
  }
  const bool has_weight = weight.has_value();
  // Without a weight, that of ones has a gradient nevertheless.
  py::array ones = empty(channels, x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    std::fill(mutable_data<T>(ones), mutable_data<T>(ones) + ones.size(), T(1));
  });
  const std::vector<Operand> operands = {x,
                                         {mean, true},
                                         {var, true},
                                         {has_weight ? *weight : ones, true},
                                         Operand::unread(channels, true)};
  std::vector<const py::array*> saved;
  if (training) saved = {&mean, &var};
  const Gradients g = backward(
      dy, operands, {needs[0], false, false, needs[1], needs[2]}, nullptr,
      [&](auto zero) { return make_batch_norm<decltype(zero)>(shape, training, 0, eps); }, saved);
  return py::make_tuple(object_of(g[0]), object_of(g[3]), object_of(g[4]));
}

// Arithmetic on broadcast arrays, and concatenation

auto make_arithmetic(bool product, const Shape& a, const Shape& b) {
  return [product, a, b](auto zero) {
    using T = decltype(zero);
    return product ? make_mul<T>(a, true, b, true) : make_add<T>(a, true, b, true);
  };
}

py::array arithmetic(bool product, py::handle a_object, py::handle b_object) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  const Shape y = broadcast_shape(shape_of(a), shape_of(b));
  if (element_count(y) == 0) return empty(y, a);
  return forward({{a, true}, {b, true}}, y, true,
                 make_arithmetic(product, shape_of(a), shape_of(b)));
}

py::tuple add_backward(py::handle dy_object, const Shape& a, const Shape& b,
                       std::pair<bool, bool> needs) {
  const py::array dy = dense("dy", dy_object);
  require_shape("dy", dy, broadcast_shape(a, b));
  const Gradients g = backward({dy, true}, {Operand::unread(a, true), Operand::unread(b, true)},
                               {needs.first, needs.second}, nullptr, make_arithmetic(false, a, b));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::tuple mul_backward(py::handle dy_object, py::handle a_object, py::handle b_object,
                       std::pair<bool, bool> needs) {
  const py::array a = dense("a", a_object), b = dense_as("b", b_object, a);
  const py::array dy = dense_as("dy", dy_object, a);
  require_shape("dy", dy, broadcast_shape(shape_of(a), shape_of(b)));
  const Gradients g = backward({dy, true}, {{a, true}, {b, true}}, {needs.first, needs.second},
                               nullptr, make_arithmetic(true, shape_of(a), shape_of(b)));
  return py::make_tuple(object_of(g[0]), object_of(g[1]));
}

py::array concat(const std::vector<py::object>& objects, std::int64_t axis) {
  std::vector<py::array> arrays;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const std::string name = message("arrays[", i, "]");
    arrays.push_back(i == 0 ? dense(name.c_str(), objects[i])
                            : dense_as(name.c_str(), objects[i], arrays[0]));
    shapes.push_back(shape_of(arrays[i]));
  }
  const Shape y = concat_shape(shapes, axis);
  const std::vector<Operand> operands(arrays.begin(), arrays.end());
  return forward(operands, y, false,
                 [&](auto zero) { return make_concat<decltype(zero)>(shapes, axis); });
}

py::list concat_backward(py::handle dy_object, const Shape& sizes, std::int64_t axis) {
  const py::array dy = dense("dy", dy_object);
  Shape shape = shape_of(dy);
  axis = checked_axis(axis, shape);
  std::int64_t total = 0;
  bool negative = false;
  for (const std::int64_t size : sizes) {
    negative = negative || size < 0;
    total += size;
  }
  if (negative || total != shape[static_cast<std::size_t>(axis)])
    throw ShapeError(
        message("sizes ", sizes, " do not divide axis ", axis, " of dy, of shape ", shape));
  std::vector<Shape> shapes;
  std::vector<Operand> operands;
  for (const std::int64_t size : sizes) {
    shape[static_cast<std::size_t>(axis)] = size;
    shapes.push_back(shape);
    operands.push_back(Operand::unread(shape));
  }
  const Gradients g =
      backward(dy, operands, std::vector<bool>(sizes.size(), true), nullptr,
               [&](auto zero) { return make_concat<decltype(zero)>(shapes, axis); });
  py::list result;
  for (const auto& part : g) result.append(object_of(part));
  return result;
}

void bind_others(py::module_& m) {
  using namespace py::literals;
  m.def("dropout", &dropout_of, "x"_a, "p"_a, "seed"_a, "step"_a, "node"_a, "first_sample"_a);
  m.def("drop_block2d", &drop_block2d_of, "x"_a, "p"_a, "block_size"_a, "seed"_a, "step"_a,
        "node"_a, "first_sample"_a);
  m.def("batch_norm", &batch_norm, "x"_a, "running_mean"_a, "running_var"_a, "weight"_a, "bias"_a,
        "training"_a, "eps"_a);
  m.def("batch_norm_backward", &batch_norm_backward, "dy"_a, "x"_a, "mean"_a, "var"_a, "weight"_a,
        "training"_a, "eps"_a, "needs"_a = std::array<bool, 3>{true, true, true});
  m.def("add", [](py::handle a, py::handle b) { return arithmetic(false, a, b); }, "a"_a, "b"_a);
  m.def("mul", [](py::handle a, py::handle b) { return arithmetic(true, a, b); }, "a"_a, "b"_a);
  m.def("add_backward", &add_backward, "dy"_a, "a_shape"_a, "b_shape"_a,
        "needs"_a = std::pair(true, true));
  m.def("mul_backward", &mul_backward, "dy"_a, "a"_a, "b"_a, "needs"_a = std::pair(true, true));
  m.def("concat", &concat, "arrays"_a, "axis"_a);
  m.def("concat_backward", &concat_backward, "dy"_a, "sizes"_a, "axis"_a);
  // What moves nothing but memory of the host, or has all of it there.
  const auto core = py::module_::import("pynn._core");
  for (const char* name : {"flatten", "reshape", "max_pool2d_backward", "philox", "sum_of_squares"})
    m.attr(name) = core.attr(name);
}

// Losses

// (N, rest) <-> (rest, N), on the host.
std::vector<std::int64_t> turned(const std::int64_t* from, std::int64_t N, std::int64_t rest) {
  std::vector<std::int64_t> to(static_cast<std::size_t>(N * rest));
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t r = 0; r < rest; ++r)
      to[static_cast<std::size_t>(r * N + n)] = from[n * rest + r];
  return to;
}

template <typename T>
LossResult loss_result(Bench<T>& bench, std::int64_t positions) {
  LossResult result;
  result.losses = reinterpret_cast<double*>(bench.bytes(sizeof(double)));
  const std::int64_t bytes = loss_workspace(positions);
  result.workspace = bench.bytes(bytes);
  clear(result.workspace, bytes);
  return result;
}

template <typename T>
double value_of(const LossResult& result) {
  double value = 0;
  copy_to_host(&value, result.losses, sizeof value);
  return value;
}

py::tuple cross_entropy_of(py::handle logits_object, py::handle target_object,
                           py::handle weight_object, double label_smoothing,
                           std::optional<std::int64_t> ignore_index,
                           const std::string& reduction_name, bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  check_smoothing(label_smoothing);
  const py::array logits = dense("logits", logits_object);
  const Shape shape = shape_of(logits);
  if (shape.size() < 2)
    throw ShapeError(message("logits must have shape (N, C) or (N, C, ...), got ", shape));
  Shape positions_shape = shape;  // (N, ...)
  positions_shape.erase(positions_shape.begin() + 1);
  const std::int64_t positions = element_count(positions_shape);
  const std::optional<py::array> weight = optional_dense_as("weight", weight_object, logits);
  if (weight) require_shape("weight", *weight, {shape[1]});
  const bool integers = holds_integers(target_object);
  const py::array target = integers ? py::reinterpret_borrow<py::array>(target_object)
                                    : dense_as("target", target_object, logits);
  const Shape& target_shape = integers ? positions_shape : shape;
  if (shape_of(target) != target_shape)
    throw ShapeError(message(
        "target must have shape ", target_shape, " for logits of shape ", shape, ", got ",
        shape_of(target),
        integers ? "" : "; floating targets are probabilities, class labels must be integers"));
  if (!integers && ignore_index)
    throw std::invalid_argument("ignore_index is for integer labels; target holds probabilities");
  const py::array labels =
      integers ? checked_labels(target, target_shape, shape[1], ignore_index) : py::array();

  return by_dtype(logits, [&](auto zero) {
    using T = decltype(zero);
    py::object loss = py::float_(0.0), gradient = py::none();
    if (logits.size() == 0) {
      if (return_grad) gradient = empty(shape, logits);
      if (reduction == Reduction::kNone) {
        py::array none = empty(positions_shape, logits);
        std::memset(none.mutable_data(), 0, static_cast<std::size_t>(none.nbytes()));
        loss = none;
      }
      return py::make_tuple(loss, gradient);
    }
    Bench<T> bench;
    CrossEntropy<T, std::int64_t> task;
    task.positions = positions;
    task.C = shape[1];
    task.logits = bench.put(logits, false);
    if (integers) {
      const auto lying = turned(data<std::int64_t>(labels), shape[0], positions / shape[0]);
      const auto bytes = static_cast<std::int64_t>(lying.size() * sizeof lying[0]);
      char* const to = bench.bytes(bytes);
      copy_to_device(to, lying.data(), bytes);
      task.labels = reinterpret_cast<const std::int64_t*>(to);
    } else {
      task.probabilities = bench.put(target, false);
    }
    task.weight = weight ? bench.put(*weight, true) : nullptr;
    task.ignores = ignore_index.has_value();
    task.ignored_label = ignore_index.value_or(0);
    task.smoothing = label_smoothing;
    task.mean = reduction == Reduction::kMean;
    task.gradient = return_grad ? bench.room(logits.size()) : nullptr;
    task.position_losses = bench.room(positions);
    const LossResult result = loss_result(bench, positions);
    cross_entropy(task, result, stream());
    loss = reduction == Reduction::kNone
               ? py::object(bench.get(task.position_losses, positions_shape, false))
               : py::object(py::float_(value_of<T>(result)));
    if (return_grad) gradient = bench.get(task.gradient, shape, false);
    return py::make_tuple(loss, gradient);
  });
}

py::tuple mse_loss_of(py::handle prediction_object, py::handle target_object,
                      const std::string& reduction_name, bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  const py::array prediction = dense("prediction", prediction_object);
  const py::array target = dense_as("target", target_object, prediction);
  const Shape shape = shape_of(prediction);
  if (shape != shape_of(target))
    throw ShapeError(
        message("target must have the shape of prediction, ", shape, ", got ", shape_of(target)));
  return by_dtype(prediction, [&](auto zero) {
    using T = decltype(zero);
    py::object loss = py::float_(0.0), gradient = py::none();
    if (prediction.size() == 0) {
      if (reduction == Reduction::kNone) loss = empty(shape, prediction);
      if (return_grad) gradient = empty(shape, prediction);
      return py::make_tuple(loss, gradient);
    }
    Bench<T> bench;
    const std::int64_t size = prediction.size();
    T* const dx = return_grad ? bench.room(size) : nullptr;
    T* const each = reduction == Reduction::kNone ? bench.room(size) : nullptr;
    const LossResult result = loss_result(bench, size);
    // In the layout of plans, so that sums have their order, and their bits.
    mse_loss<T>(size, reduction == Reduction::kMean, bench.put(prediction, false),
                bench.put(target, false), dx, each, result, stream());
    loss = each ? py::object(bench.get(each, shape, false))
                : py::object(py::float_(value_of<T>(result)));
    if (dx) gradient = bench.get(dx, shape, false);
    return py::make_tuple(loss, gradient);
  });
}

// Optimisers: arrays (size,), updated in place

template <typename T, typename Make>
void update_one(const py::array& g, py::array& p, std::optional<py::array>& first,
                std::optional<py::array>& second, const Make& settings_of) {
  const std::int64_t size = g.size();
  if (size == 0) return;
  const auto settings = settings_of(T{});
  Bench<T> bench;
  ParameterUpdate<T> parameter;
  parameter.p = bench.put(p, true);
  parameter.g = bench.put(g, true);
  parameter.state[0] = first ? bench.put(*first, true) : nullptr;
  parameter.state[1] = second ? bench.put(*second, true) : nullptr;
  parameter.size = parameter.shard_stride = size;
  UpdateTable<T> table;
  table.piece_count = update_pieces(&parameter, 1, nullptr);
  std::vector<UpdatePiece> pieces(static_cast<std::size_t>(table.piece_count));
  update_pieces(&parameter, 1, pieces.data());
  const auto upload = [&](const void* from, std::size_t bytes) {
    char* const to = bench.bytes(static_cast<std::int64_t>(bytes));
    copy_to_device(to, from, static_cast<std::int64_t>(bytes));
    return to;
  };
  table.parameters =
      reinterpret_cast<const ParameterUpdate<T>*>(upload(&parameter, sizeof parameter));
  table.pieces =
      reinterpret_cast<const UpdatePiece*>(upload(pieces.data(), pieces.size() * sizeof pieces[0]));
  using S = std::decay_t<decltype(settings)>;
  update(table, reinterpret_cast<const S*>(upload(&settings, sizeof settings)), nullptr, stream());
  const auto download = [&](py::array& array, const T* from) {
    Transfer<T>::raw_to_host(size, from, mutable_data<T>(array));
  };
  download(p, parameter.p);
  if (first) download(*first, parameter.state[0]);
  if (second) download(*second, parameter.state[1]);
}

template <typename Make>
void update_arrays(py::handle g_object, py::handle p_object, const char* first_name,
                   py::handle first_object, const char* second_name, py::handle second_object,
                   const Make& settings_of) {
  const py::array g = dense("g", g_object);
  if (g.ndim() != 1)
    throw ShapeError(message("g must have one dimension, got shape ", shape_of(g)));
  const auto state = [&](const char* name, py::handle object) -> std::optional<py::array> {
    if (object.is_none()) return std::nullopt;
    py::array array = in_place(name, object, g);
    require_shape(name, array, shape_of(g));
    return array;
  };
  py::array p = *state("p", p_object);
  auto first = state(first_name, first_object), second = state(second_name, second_object);
  by_dtype(g, [&](auto zero) { update_one<decltype(zero)>(g, p, first, second, settings_of); });
}

void bind_training(py::module_& m) {
  using namespace py::literals;
  m.def("cross_entropy", &cross_entropy_of, "logits"_a, "target"_a, "weight"_a, "label_smoothing"_a,
        "ignore_index"_a, "reduction"_a, "return_grad"_a);
  m.def("mse_loss", &mse_loss_of, "prediction"_a, "target"_a, "reduction"_a, "return_grad"_a);
  m.def(
      "sgd_update",
      [](py::handle p, py::handle g, py::handle velocity, double lr, double momentum, bool nesterov,
         bool averaged, double weight_decay) {
        update_arrays(g, p, "velocity", velocity, "", py::none(), [&](auto zero) {
          return sgd_settings<decltype(zero)>(lr, momentum, nesterov, averaged, weight_decay);
        });
      },
      "p"_a, "g"_a, "velocity"_a, "lr"_a, "momentum"_a, "nesterov"_a, "averaged"_a,
      "weight_decay"_a);
  m.def(
      "adam_update",
      [](py::handle p, py::handle g, py::handle mean, py::handle square, std::int64_t step,
         double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled) {
        update_arrays(g, p, "m", mean, "v", square, [&](auto zero) {
          return adam_settings<decltype(zero)>(step, lr, beta1, beta2, eps, weight_decay,
                                               decoupled);
        });
      },
      "p"_a, "g"_a, "m"_a, "v"_a, "step"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a,
      "decoupled"_a);
  m.def(
      "rmsprop_update",
      [](py::handle p, py::handle g, py::handle square, py::handle velocity, double lr,
         double alpha, double eps, double momentum, double weight_decay) {
        update_arrays(g, p, "square", square, "velocity", velocity, [&](auto zero) {
          return rmsprop_settings<decltype(zero)>(lr, alpha, eps, momentum, weight_decay);
        });
      },
      "p"_a, "g"_a, "square"_a, "velocity"_a, "lr"_a, "alpha"_a, "eps"_a, "momentum"_a,
      "weight_decay"_a);
}

}  // namespace

void bind_operators(py::module_& m) {
  bind_activations(m);
  bind_products(m);
  bind_pools(m);
  bind_others(m);
  bind_training(m);
}

}  // namespace pynn::cuda
