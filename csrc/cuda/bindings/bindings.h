// The bindings of pynn._cuda; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace pynn::cuda {

void bind_array(pybind11::module_& m);
void bind_device(pybind11::module_& m);
void bind_operators(pybind11::module_& m);
void bind_plan(pybind11::module_& m);

}  // namespace pynn::cuda
