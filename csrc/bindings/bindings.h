// The bindings, one function for each file bind_<operator>.cpp; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace pynn {

void bind_avg_pool2d(pybind11::module_& m);
void bind_bias(pybind11::module_& m);
void bind_conv2d(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_matmul(pybind11::module_& m);
void bind_max_pool2d(pybind11::module_& m);
void bind_relu(pybind11::module_& m);
void bind_runtime(pybind11::module_& m);

}  // namespace pynn
