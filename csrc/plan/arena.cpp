#include "plan/arena.h"

#include <algorithm>
#include <numeric>

namespace pynn {
namespace {

constexpr std::int64_t kAlignment = 64;

}  // namespace

int Arena::add(std::int64_t bytes, int first, int last) {
  buffers_.push_back({bytes, first, last});
  return static_cast<int>(buffers_.size()) - 1;
}

int Arena::add_blocks(std::int64_t blocks, std::int64_t block_bytes, int first, int last) {
  const int buffer = add(blocks * block_bytes, first, last);
  at(buffer).block_bytes = block_bytes;
  return buffer;
}

void Arena::extend(int buffer, int time) {
  Buffer& b = at(buffer);
  b.first = std::min(b.first, time);
  b.last = std::max(b.last, time);
}

void Arena::place(const std::function<bool(int)>& passing, std::int64_t slots) {
  for (Buffer& buffer : buffers_) {
    if (buffer.block_bytes > 0 && buffer.first == buffer.last && passing(buffer.first)) {
      buffer.slot_bytes = buffer.block_bytes;
      buffer.bytes = std::min(buffer.bytes, slots * buffer.block_bytes);
    }
    // Sizes are often a power of two: a line more keeps buffers out of step in the cache.
    buffer.bytes = (buffer.bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  }
  std::vector<std::size_t> order(buffers_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
    return buffers_[a].bytes > buffers_[b].bytes;
  });
  std::vector<const Buffer*> placed;  // by offset
  for (const std::size_t index : order) {
    Buffer& buffer = buffers_[index];
    std::int64_t offset = 0;
    for (const Buffer* other : placed) {
      const bool together = buffer.apart || other->apart ||
                            !(other->last < buffer.first || buffer.last < other->first);
      if (!together) continue;
      if (offset + buffer.bytes <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes);
    }
    buffer.offset = offset;
    bytes_ = std::max(bytes_, offset + buffer.bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), &buffer,
                         [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; }),
        &buffer);
  }
}

}  // namespace pynn
