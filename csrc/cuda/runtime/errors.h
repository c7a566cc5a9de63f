// Failures of the device as exceptions. What a call of the CUDA run time gives is checked with
// `check` (kernels/error.h), which throws Error; Python sees it as pynn.DeviceError, or
// pynn.DeviceMemoryError where memory did not suffice.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/kernels/error.h"

namespace pynn::cuda {

// A device that cannot be used, for a reason that no call of the run time gave.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline bool out_of_memory(const Error& error) { return error.code() == cudaErrorMemoryAllocation; }

// Whether every later call of the same context fails as well: the device is lost.
bool destroys_context(const Error& error);

}  // namespace pynn::cuda
