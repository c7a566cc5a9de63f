#include "cuda/runtime/driver.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include "cuda/runtime/session.h"
#include "runtime/errors.h"

namespace pynn::cuda {
namespace {

constexpr int kOldestCapability = 75;  // of the architectures that pynn is compiled for

std::string version_text(int version) { return message(version / 1000, ".", version % 1000 / 10); }

}  // namespace

std::string look_for_device() {
  // The run time finds the driver in the same way, but does not tell "not there" from "too old".
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver)
    return "the driver's library libcuda.so.1 was not found; install NVIDIA's driver (in a "
           "container, start it with access to the GPU)";
  const auto driver_version = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDriverGetVersion"));
  int version = 0;
  if (!driver_version || driver_version(&version) != 0 || version < CUDART_VERSION / 1000 * 1000)
    return message("NVIDIA's driver is too old: it knows CUDA ", version_text(version),
                   ", pynn was built with CUDA ", version_text(CUDART_VERSION),
                   " and needs a driver that knows ", version_text(CUDART_VERSION / 1000 * 1000),
                   "; update the driver");
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return "no GPU was found; if there is one, look whether CUDA_VISIBLE_DEVICES hides it and "
           "whether nvidia-smi sees it";
  if (status != cudaSuccess)
    return message("the driver failed to start: ", cudaGetErrorString(status),
                   "; look whether nvidia-smi works");
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (10 * major + minor < kOldestCapability)
    return message("the GPU has compute capability ", major, ".", minor,
                   ", and pynn needs 7.5 (Turing) or newer");
  return "";
}

std::string describe() {
  if (!missing().empty()) return "";
  int version = 0;
  cudaDeviceProp properties;
  if (cudaDriverGetVersion(&version) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, 0) != cudaSuccess)
    return "";
  return message("CUDA ", version_text(CUDART_VERSION), ", driver ", version_text(version), ", ",
                 properties.name, " (compute capability ", properties.major, ".", properties.minor,
                 ")");
}

}  // namespace pynn::cuda
