#include <algorithm>
#include <array>

#include "bindings/batch_norm_arguments.h"
#include "bindings/bindings.h"
#include "kernels/batch_norm.h"
#include "shapes/normalisation.h"

namespace pynn {
namespace {

BatchNormShape to_batch_norm_shape(const Shape& x) {
  return {x[0], x[1], x.size() == 4 ? x[2] * x[3] : 1};
}

template <typename T>
void copy(const py::array& from, py::array& to) {
  std::copy(data<T>(from), data<T>(from) + from.size(), mutable_data<T>(to));
}

py::tuple batch_norm(py::handle x_object, py::handle running_mean_object,
                     py::handle running_var_object, py::handle weight_object,
                     py::handle bias_object, bool training, double eps) {
  const BatchNormArguments a = batch_norm_arguments(
      x_object, running_mean_object, running_var_object, weight_object, bias_object, training);
  const BatchNormShape s = to_batch_norm_shape(a.shape);
  py::array y = empty(a.shape, a.x), mean = empty({s.C}, a.x), var = empty({s.C}, a.x);
  by_dtype(a.x, [&](auto zero) {
    using T = decltype(zero);
    T *y_data = mutable_data<T>(y), *mean_data = mutable_data<T>(mean),
      *var_data = mutable_data<T>(var);
    const T *x_data = data<T>(a.x), *weight_data = data<T>(a.weight), *bias_data = data<T>(a.bias);
    if (!training) {
      copy<T>(*a.running_mean, mean);
      copy<T>(*a.running_var, var);
    } else if (s.count() == 0) {
      std::fill(mean_data, mean_data + s.C, T(0));
      std::fill(var_data, var_data + s.C, T(0));
    }
    ReleaseGil nogil(a.x.size() * 8);
    parallel_for(s.C, s.count() * 8, [=](std::int64_t begin, std::int64_t end) {
      const auto& kernels = isa_table<T>().batch_norm;
      if (training && s.count() > 0) kernels.statistics(s, begin, end, x_data, mean_data, var_data);
      kernels.forward(s, begin, end, x_data, mean_data, var_data, weight_data, bias_data, eps,
                      y_data);
    });
  });
  return py::make_tuple(y, mean, var);
}

py::tuple batch_norm_backward(py::handle dy_object, py::handle x_object, py::handle mean_object,
                              py::handle var_object, py::handle weight_object, bool training,
                              double eps, const std::array<bool, 3>& needs) {
  const BatchNormBackwardArguments a = batch_norm_backward_arguments(
      dy_object, x_object, mean_object, var_object, weight_object, training);
  const BatchNormShape s = to_batch_norm_shape(a.shape);
  std::optional<py::array> dx, dweight, dbias;
  if (needs[0]) dx = empty(a.shape, a.x);
  if (needs[1]) dweight = empty({s.C}, a.x);
  if (needs[2]) dbias = empty({s.C}, a.x);
  by_dtype(a.x, [&](auto zero) {
    using T = decltype(zero);
    const auto pointer = [](std::optional<py::array>& array) {
      return array ? mutable_data<T>(*array) : nullptr;
    };
    T *dx_data = pointer(dx), *dweight_data = pointer(dweight), *dbias_data = pointer(dbias);
    const T *dy_data = data<T>(a.dy), *x_data = data<T>(a.x), *mean_data = data<T>(a.mean),
            *var_data = data<T>(a.var), *weight_data = data<T>(a.weight);
    ReleaseGil nogil(a.x.size() * 8);
    parallel_for(s.C, s.count() * 8, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().batch_norm.backward(s, begin, end, dy_data, x_data, mean_data, var_data,
                                         weight_data, training, eps, dx_data, dweight_data,
                                         dbias_data);
    });
  });
  return py::make_tuple(dx, dweight, dbias);
}

}  // namespace

void bind_batch_norm(py::module_& m) {
  using namespace py::literals;
  m.def("batch_norm", &batch_norm, "x"_a, "running_mean"_a, "running_var"_a, "weight"_a, "bias"_a,
        "training"_a, "eps"_a);
  m.def("batch_norm_backward", &batch_norm_backward, "dy"_a, "x"_a, "mean"_a, "var"_a, "weight"_a,
        "training"_a, "eps"_a, "needs"_a = std::array<bool, 3>{true, true, true});
  m.def(
      "batch_norm_shape",
      [](const Shape& x, const std::optional<Shape>& running_mean,
         const std::optional<Shape>& running_var, const std::optional<Shape>& weight,
         const std::optional<Shape>& bias, bool training) {
        return to_tuple(batch_norm_shape(x, running_mean, running_var, weight, bias, training));
      },
      "x"_a, "running_mean"_a, "running_var"_a, "weight"_a, "bias"_a, "training"_a);
}

}  // namespace pynn
