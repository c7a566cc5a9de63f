// The back end run on the processor, for tests: of all that may be missing, only the device is.
#include <cuda_runtime.h>

#include "cuda/runtime/driver.h"

namespace pynn::cuda {

const std::string& missing() {
  static const std::string reason = [] {
    int count = 0;
    const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
    return std::string(found ? "" : "no GPU was found (emulated)");
  }();
  return reason;
}

std::string describe() { return missing().empty() ? "emulated on the processor, for tests" : ""; }

}  // namespace pynn::cuda
