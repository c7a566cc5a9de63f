// One allocation for everything a plan keeps: each buffer has the time it is alive, and buffers
// that are never alive together share memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pynn {

class Arena {
 public:
  // A buffer of this many bytes, alive from time `first` to time `last`, both included.
  int add(std::int64_t bytes, int first, int last);
  // Makes an existing buffer alive at this time as well.
  void extend(int buffer, int time);
  // Gives every buffer its offset. No buffer may be added afterwards.
  void place();

  std::int64_t offset(int buffer) const {
    return buffers_[static_cast<std::size_t>(buffer)].offset;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Buffer {
    std::int64_t bytes;
    int first, last;
    std::int64_t offset;
  };
  std::vector<Buffer> buffers_;
  std::int64_t bytes_ = 0;
};

}  // namespace pynn
