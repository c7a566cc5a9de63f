// The process's use of the device: one stream that all work goes through, and whether the device
// has been lost.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

namespace pynn::cuda {

// What look_for_device says, looked up once; and by which process. One that was forked from it
// cannot use the device.
const std::string& missing();
int process_that_looked();

// A number that changes when the device was lost: memory and graphs of an earlier session are gone,
// and must not be used or freed.
std::uint64_t session();

// The stream of the session. Begins a new session where the last has ended; throws DeviceError
// where there is no device, in a process forked from one that looked for it, and in a thread that
// has chosen another device than the first.
cudaStream_t stream();

// Ends the session: its context is destroyed.
void lose();

// Waits until all work is done; throws what went wrong.
void synchronize();

// Bytes of the device's memory.
struct MemoryInfo {
  std::int64_t free, total;
};
MemoryInfo memory_info();
int device_count();

}  // namespace pynn::cuda
