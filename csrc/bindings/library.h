// Operators of libraries, for other bindings.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "host/library_operator.h"

namespace pynn {

// The operator that a Python LibraryOperator stands for; null for None.
std::shared_ptr<const LibraryOperator> library_operator(pybind11::handle object);

// All attributes, defaults included; TypeError where one is unknown, missing or of another type.
AttributeValues attribute_values(const LibraryOperator& op, const pybind11::dict& given);

}  // namespace pynn
