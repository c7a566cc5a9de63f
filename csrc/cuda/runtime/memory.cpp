#include "cuda/runtime/memory.h"

#include <cuda_runtime.h>

#include <utility>

#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"
#include "runtime/errors.h"

namespace pynn::cuda {

DeviceMemory::DeviceMemory(std::int64_t bytes) {
  stream();  // begins the session
  if (bytes <= 0) return;
  void* data = nullptr;
  const std::string doing = message("allocating ", bytes, " bytes on the device");
  check(cudaMalloc(&data, static_cast<std::size_t>(bytes)), doing.c_str());
  data_ = static_cast<char*>(data);
  bytes_ = bytes;
  session_ = session();
}

DeviceMemory::~DeviceMemory() { release(); }

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(session_, other.session_);
  return *this;
}

bool DeviceMemory::lost() const { return data_ && session_ != session(); }

void DeviceMemory::reserve(std::int64_t bytes) {
  if (bytes <= bytes_ && !lost()) return;
  release();
  *this = DeviceMemory(bytes);
}

void DeviceMemory::release() {
  if (data_ && !lost()) cudaFree(data_);
  data_ = nullptr;
  bytes_ = 0;
}

PinnedMemory::PinnedMemory(std::int64_t bytes) {
  stream();
  if (bytes <= 0) return;
  void* data = nullptr;
  check(cudaMallocHost(&data, static_cast<std::size_t>(bytes)), "allocating page-locked memory");
  data_ = static_cast<char*>(data);
  bytes_ = bytes;
  session_ = session();
}

PinnedMemory::~PinnedMemory() { release(); }

PinnedMemory::PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }

PinnedMemory& PinnedMemory::operator=(PinnedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(session_, other.session_);
  return *this;
}

void PinnedMemory::reserve(std::int64_t bytes) {
  if (bytes <= bytes_ && session_ == session()) return;
  release();
  *this = PinnedMemory(bytes);
}

void PinnedMemory::release() {
  if (data_ && session_ == session()) cudaFreeHost(data_);
  data_ = nullptr;
  bytes_ = 0;
}

void copy_to_device(void* device, const void* host, std::int64_t bytes) {
  if (bytes <= 0) return;
  const cudaStream_t s = stream();
  check(cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, s),
        "copying to the device");
  check(cudaStreamSynchronize(s), "copying to the device");
}

void copy_to_host(void* host, const void* device, std::int64_t bytes) {
  if (bytes <= 0) return;
  const cudaStream_t s = stream();
  check(cudaMemcpyAsync(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, s),
        "copying from the device");
  check(cudaStreamSynchronize(s), "copying from the device");
}

void copy_on_device(void* to, const void* from, std::int64_t bytes) {
  if (bytes <= 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                        stream()),
        "copying on the device");
}

void clear(void* device, std::int64_t bytes) {
  if (bytes <= 0) return;
  check(cudaMemsetAsync(device, 0, static_cast<std::size_t>(bytes), stream()),
        "clearing memory of the device");
}

}  // namespace pynn::cuda
