// The bindings, one function for each file bind_<operator>.cpp; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace pynn {

void bind_relu(pybind11::module_& m);
void bind_runtime(pybind11::module_& m);

}  // namespace pynn
