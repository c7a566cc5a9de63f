// The back end run on the processor, for tests: of all that may be missing, only the device is.
#include <cuda_runtime.h>

#include "cuda/runtime/driver.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {

std::string look_for_device() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  return found ? "" : "no GPU was found (emulated)";
}

std::string describe() { return missing().empty() ? "emulated on the processor, for tests" : ""; }

}  // namespace pynn::cuda
