// The back end run on the processor, for tests: nothing is missing.
#include "cuda/runtime/driver.h"

namespace pynn::cuda {

const std::string& missing() {
  static const std::string nothing;
  return nothing;
}

std::string describe() { return "emulated on the processor, for tests"; }

}  // namespace pynn::cuda
