// One allocation for everything a plan keeps: each buffer has the time it is alive, and buffers
// that are never alive together share memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace pynn {

class Arena {
 public:
  // A buffer of this many bytes, alive from time `first` to time `last`, both included.
  int add(std::int64_t bytes, int first, int last);
  // The same for a value in blocks of samples.
  int add_blocks(std::int64_t blocks, std::int64_t block_bytes, int first, int last);
  // Makes an existing buffer alive at this time as well.
  void extend(int buffer, int time);
  // Its memory is never another buffer's.
  void keep_apart(int buffer) { at(buffer).apart = true; }
  // All its blocks are there at once, whenever it is alive.
  void keep_whole(int buffer) { at(buffer).block_bytes = 0; }
  // Gives every buffer its offset; no buffer may be added afterwards. A buffer of blocks that is
  // alive at a single time at which blocks come and go (`passing` says at which they do) has room
  // for as many of them as there are slots.
  void place(const std::function<bool(int)>& passing, std::int64_t slots);

  std::int64_t offset(int buffer) const { return at(buffer).offset; }
  // Of a buffer that has slots; 0 for the others.
  std::int64_t slot_bytes(int buffer) const { return at(buffer).slot_bytes; }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Buffer {
    std::int64_t bytes;
    int first, last;
    std::int64_t block_bytes = 0;  // 0: it is not made of blocks
    bool apart = false;
    std::int64_t offset = 0, slot_bytes = 0;
  };
  Buffer& at(int buffer) { return buffers_[static_cast<std::size_t>(buffer)]; }
  const Buffer& at(int buffer) const { return buffers_[static_cast<std::size_t>(buffer)]; }

  std::vector<Buffer> buffers_;
  std::int64_t bytes_ = 0;
};

}  // namespace pynn
