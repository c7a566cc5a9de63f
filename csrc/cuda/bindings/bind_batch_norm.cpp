#include <algorithm>
#include <array>
#include <cstring>

#include "bindings/batch_norm_arguments.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"

namespace pynn::cuda {
namespace {

py::tuple batch_norm(py::handle x_object, py::handle running_mean_object,
                     py::handle running_var_object, py::handle weight_object,
                     py::handle bias_object, bool training, double eps) {
  const BatchNormArguments a = batch_norm_arguments(
      x_object, running_mean_object, running_var_object, weight_object, bias_object, training);
  const Shape channels{a.shape[1]};
  return by_dtype(a.x, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    if (a.x.size() == 0) {
      py::array_t<T> zeros(channels);
      std::fill(zeros.mutable_data(), zeros.mutable_data() + zeros.size(), T(0));
      return py::make_tuple(empty(a.shape, a.x), training ? py::array(zeros) : *a.running_mean,
                            training ? py::array(zeros.attr("copy")()) : *a.running_var);
    }
    const OperationPointer<T> operation = make_batch_norm<T>(a.shape, training, 0, eps);
    Bench<T> bench;
    Call<T> c;
    run_forward(
        bench, *operation,
        {a.x, {a.running_mean, true}, {a.running_var, true}, {a.weight, true}, {a.bias, true}},
        a.x.size(), c);
    const py::array y = bench.get(c.y, a.shape, false);
    if (!training)
      return py::make_tuple(y, a.running_mean->attr("copy")(), a.running_var->attr("copy")());
    const T* const mean = reinterpret_cast<const T*>(c.saved);
    const T* const var = reinterpret_cast<const T*>(c.saved + bytes_of<T>(a.shape[1]));
    return py::make_tuple(y, bench.get(mean, channels, true), bench.get(var, channels, true));
  });
}

py::tuple batch_norm_backward(py::handle dy_object, py::handle x_object, py::handle mean_object,
                              py::handle var_object, py::handle weight_object, bool training,
                              double eps, const std::array<bool, 3>& needs) {
  const BatchNormBackwardArguments a = batch_norm_backward_arguments(
      dy_object, x_object, mean_object, var_object, weight_object, training);
  const Shape channels{a.shape[1]};
  if (a.x.size() == 0) {
    const auto zeros = [&](bool wanted, const Shape& of) -> py::object {
      if (!wanted) return py::none();
      py::array made = empty(of, a.x);
      std::memset(made.mutable_data(), 0, static_cast<std::size_t>(made.nbytes()));
      return made;
    };
    return py::make_tuple(zeros(needs[0], a.shape), zeros(needs[1], channels),
                          zeros(needs[2], channels));
  }
  const bool has_weight = a.weight.has_value();
  // Without a weight, that of ones has a gradient nevertheless.
  py::array ones = empty(channels, a.x);
  by_dtype(a.x, [&](auto zero) {
    using T = decltype(zero);
    std::fill(mutable_data<T>(ones), mutable_data<T>(ones) + ones.size(), T(1));
  });
  const std::vector<Operand> operands = {a.x,
                                         {a.mean, true},
                                         {a.var, true},
                                         {has_weight ? *a.weight : ones, true},
                                         Operand::unread(channels, true)};
  std::vector<const py::array*> saved;
  if (training) saved = {&a.mean, &a.var};
  const Gradients g = backward(
      a.dy, operands, {needs[0], false, false, needs[1], needs[2]}, nullptr,
      [&](auto zero) { return make_batch_norm<decltype(zero)>(a.shape, training, 0, eps); }, saved);
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
