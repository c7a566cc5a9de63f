#include "bindings/batch_norm_arguments.h"

#include "shapes/normalisation.h"

namespace pynn {

BatchNormArguments batch_norm_arguments(py::handle x, py::handle running_mean,
                                        py::handle running_var, py::handle weight, py::handle bias,
                                        bool training) {
  BatchNormArguments a;
  a.x = dense("x", x);
  a.running_mean = optional_dense_as("running_mean", running_mean, a.x);
  a.running_var = optional_dense_as("running_var", running_var, a.x);
  a.weight = optional_dense_as("weight", weight, a.x);
  a.bias = optional_dense_as("bias", bias, a.x);
  a.shape =
      batch_norm_shape(shape_of(a.x), optional_shape(a.running_mean), optional_shape(a.running_var),
                       optional_shape(a.weight), optional_shape(a.bias), training);
  return a;
}

BatchNormBackwardArguments batch_norm_backward_arguments(py::handle dy, py::handle x,
                                                         py::handle mean, py::handle var,
                                                         py::handle weight, bool training) {
  BatchNormBackwardArguments a;
  a.x = dense("x", x);
  a.dy = dense_as("dy", dy, a.x);
  a.mean = dense_as("mean", mean, a.x);
  a.var = dense_as("var", var, a.x);
  a.weight = optional_dense_as("weight", weight, a.x);
  a.shape = batch_norm_shape(shape_of(a.x), shape_of(a.mean), shape_of(a.var),
                             optional_shape(a.weight), std::nullopt, training);
  require_shape("dy", a.dy, a.shape);
  return a;
}

}  // namespace pynn
