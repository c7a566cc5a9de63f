#include "cuda/runtime/session.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cuda/kernels/launch.h"
#include "cuda/runtime/driver.h"
#include "cuda/runtime/errors.h"
#include "runtime/errors.h"

namespace pynn::cuda {
namespace {

std::mutex mutex;
std::atomic<std::uint64_t> number{1};
cudaStream_t current = nullptr;

// Where the device can: PYNN_CUDA_OVERLAP=1 says so. It changes no result.
bool overlap_is_wanted() {
  const char* const asked = std::getenv("PYNN_CUDA_OVERLAP");
  int major = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return asked && std::strcmp(asked, "1") == 0 && major >= 9;
}

struct Look {
  std::string missing;
  int process;
};
const Look& look() {
  static const Look result{look_for_device(), getpid()};
  return result;
}

}  // namespace

const std::string& missing() { return look().missing; }
int process_that_looked() { return look().process; }

// Timeouts, illegal addresses, failed assertions, memory that is broken or contains errors.
bool destroys_context(const Error& error) {
  const int code = static_cast<int>(error.code());
  return code == 214 || code == 226 || code == 700 || code == 702 || code == 710 ||
         (code >= 714 && code <= 719) || code == 999;
}

std::uint64_t session() { return number.load(std::memory_order_acquire); }

cudaStream_t stream() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!missing().empty()) throw DeviceError(missing());
  if (process_that_looked() != getpid())
    throw DeviceError(
        "this process was forked from one that uses the GPU, and CUDA does not work in it: start "
        "processes with the method 'spawn'");
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess && device != 0)
    throw DeviceError(message(
        "this thread has chosen GPU ", device,
        " (cudaSetDevice), and pynn computes on GPU 0 alone: choose that, or make the other "
        "one GPU 0 by CUDA_VISIBLE_DEVICES=",
        device));
  if (current) return current;
  cudaStream_t made = nullptr;
  const cudaError_t status = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
  if (status != cudaSuccess)
    throw DeviceError(
        message("making a stream failed: ", cudaGetErrorString(status),
                session() > 1
                    ? "; the device was lost before, and does not come back: start the process anew"
                    : ""));
  current = made;
  launches_overlap() = overlap_is_wanted();
  return current;
}

void lose() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!current) return;
  current = nullptr;
  number.fetch_add(1, std::memory_order_release);
  cudaDeviceReset();
  cudaGetLastError();
}

void synchronize() { check(cudaStreamSynchronize(stream()), "waiting for the device"); }

MemoryInfo memory_info() {
  stream();
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for the free memory");
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

int device_count() {
  int count = 0;
  if (!missing().empty() || cudaGetDeviceCount(&count) != cudaSuccess) return 0;
  return count;
}

}  // namespace pynn::cuda
