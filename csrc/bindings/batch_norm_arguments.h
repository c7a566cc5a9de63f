// What a user may pass to batch_norm and its gradient: the one place that reads it.
#pragma once

#include "bindings/arrays.h"

namespace pynn {

struct BatchNormArguments {
  py::array x;
  std::optional<py::array> running_mean, running_var, weight, bias;  // (C,)
  Shape shape;                                                       // of x
};

BatchNormArguments batch_norm_arguments(py::handle x, py::handle running_mean,
                                        py::handle running_var, py::handle weight, py::handle bias,
                                        bool training);

struct BatchNormBackwardArguments {
  py::array dy, x, mean, var;
  std::optional<py::array> weight;
  Shape shape;
};

BatchNormBackwardArguments batch_norm_backward_arguments(py::handle dy, py::handle x,
                                                         py::handle mean, py::handle var,
                                                         py::handle weight, bool training);

}  // namespace pynn
