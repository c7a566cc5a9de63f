// The bindings, one function for each file bind_<operator>.cpp; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace pynn {

void bind_add(pybind11::module_& m);
void bind_avg_pool2d(pybind11::module_& m);
void bind_batch_norm(pybind11::module_& m);
void bind_bias(pybind11::module_& m);
void bind_concat(pybind11::module_& m);
void bind_conv2d(pybind11::module_& m);
void bind_cross_entropy(pybind11::module_& m);
void bind_drop_block2d(pybind11::module_& m);
void bind_dropout(pybind11::module_& m);
void bind_leaky_relu(pybind11::module_& m);
void bind_library(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_log_softmax(pybind11::module_& m);
void bind_matmul(pybind11::module_& m);
void bind_max_pool2d(pybind11::module_& m);
void bind_mse_loss(pybind11::module_& m);
void bind_mul(pybind11::module_& m);
void bind_optimizers(pybind11::module_& m);
void bind_pad2d(pybind11::module_& m);
void bind_philox(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_relu(pybind11::module_& m);
void bind_reshape(pybind11::module_& m);
void bind_runtime(pybind11::module_& m);
void bind_sigmoid(pybind11::module_& m);
void bind_softmax(pybind11::module_& m);
void bind_tanh(pybind11::module_& m);

}  // namespace pynn
