#include <algorithm>
#include <array>
#include <cstring>

#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "shapes/normalisation.h"

namespace pynn::cuda {
namespace {

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

}  // namespace

void bind_batch_norm(py::module_& m) {
  using namespace py::literals;
  m.def("batch_norm", &batch_norm, "x"_a, "running_mean"_a, "running_var"_a, "weight"_a, "bias"_a,
        "training"_a, "eps"_a);
  m.def("batch_norm_backward", &batch_norm_backward, "dy"_a, "x"_a, "mean"_a, "var"_a, "weight"_a,
        "training"_a, "eps"_a, "needs"_a = std::array<bool, 3>{true, true, true});
}

}  // namespace pynn::cuda
