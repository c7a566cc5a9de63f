// Arrays between the host, where samples come first, and the device, where they come last.
#pragma once

#include <cstdint>

#include "cuda/plan/operations.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

template <typename T>
class Transfer {
 public:
  // host (N, ...) to device (features, N), and back; both are done when they return.
  void to_device(const Samples& s, const T* host, T* device);
  void to_host(const Samples& s, const T* device, T* host);
  // device (features, N) += host (N, ...).
  void add_to_device(const Samples& s, const T* host, T* device);
  // The same for what lies row-major on the device too.
  static void raw_to_device(std::int64_t count, const T* host, T* device);
  static void raw_to_host(std::int64_t count, const T* device, T* host);
  void add_raw_to_device(std::int64_t count, const T* host, T* device);

  // Working memory of at least this many elements.
  T* scratch(std::int64_t count);

 private:
  DeviceMemory memory_;
};

}  // namespace pynn::cuda
