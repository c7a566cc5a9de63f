// A node of a graph, as Python says it, as an operation of the device.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "cuda/plan/operations.h"

namespace pynn::cuda {

Precision to_precision(const std::string& name);

// Null where the device does not have the operator, or not for these inputs (numbers of values; -1:
// absent).
template <typename T>
OperationPointer<T> read_operation(const std::string& name, const std::vector<Shape>& shapes,
                                   const std::vector<bool>& stored, const std::vector<int>& inputs,
                                   const Shape& y, const pybind11::dict& attributes,
                                   Precision precision);

}  // namespace pynn::cuda
