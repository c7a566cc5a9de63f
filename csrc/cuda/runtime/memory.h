// Memory of the device, and host memory that copies go through.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn::cuda {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Throws Error where there is not enough.
  explicit DeviceMemory(std::int64_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  char* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  // Whether it went with a lost device.
  bool lost() const;
  // At least this many bytes; what was there is not kept.
  void reserve(std::int64_t bytes);

 private:
  void release();

  char* data_ = nullptr;
  std::int64_t bytes_ = 0;
  std::uint64_t session_ = 0;
};

// Page-locked: copies from and to it run beside the processor.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(std::int64_t bytes);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept;
  PinnedMemory& operator=(PinnedMemory&& other) noexcept;

  char* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  void reserve(std::int64_t bytes);

 private:
  void release();

  char* data_ = nullptr;
  std::int64_t bytes_ = 0;
  std::uint64_t session_ = 0;
};

// In the order of the session's stream. Copies from the host are done with the host's memory when
// they return; copies to the host have arrived when they return.
void copy_to_device(void* device, const void* host, std::int64_t bytes);
void copy_to_host(void* host, const void* device, std::int64_t bytes);
void copy_on_device(void* to, const void* from, std::int64_t bytes);
void clear(void* device, std::int64_t bytes);

}  // namespace pynn::cuda
