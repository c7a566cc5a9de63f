// relu, sigmoid, tanh, leaky_relu; softmax and log_softmax.
#include <string>
#include <utility>

#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "shapes/arrangement.h"

namespace pynn::cuda {
namespace {

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

}  // namespace

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

}  // namespace pynn::cuda
