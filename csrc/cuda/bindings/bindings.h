// The bindings of pynn._cuda; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace pynn::cuda {

void bind_activations(pybind11::module_& m);
void bind_array(pybind11::module_& m);
void bind_batch_norm(pybind11::module_& m);
void bind_broadcast(pybind11::module_& m);
void bind_device(pybind11::module_& m);
void bind_losses(pybind11::module_& m);
void bind_optimizers(pybind11::module_& m);
void bind_pass(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_pools(pybind11::module_& m);
void bind_products(pybind11::module_& m);
void bind_random(pybind11::module_& m);

}  // namespace pynn::cuda
