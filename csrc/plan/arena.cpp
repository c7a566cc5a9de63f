#include "plan/arena.h"

#include <algorithm>
#include <numeric>

namespace pynn {
namespace {

constexpr std::int64_t kAlignment = 64;

}  // namespace

int Arena::add(std::int64_t bytes, int first, int last) {
  // Rows of images are often a power of two long; a line more keeps buffers out of step in the
  // cache.
  const std::int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  buffers_.push_back({padded, first, last, 0});
  return static_cast<int>(buffers_.size()) - 1;
}

void Arena::extend(int buffer, int time) {
  Buffer& b = buffers_[static_cast<std::size_t>(buffer)];
  b.first = std::min(b.first, time);
  b.last = std::max(b.last, time);
}

void Arena::place() {
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
      if (other->last < buffer.first || buffer.last < other->first) continue;
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
