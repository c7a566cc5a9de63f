#include "runtime/scratch.h"

#include <new>

namespace pynn {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
  ~Block() { ::operator delete(data, kAlignment); }
};
thread_local Block block;

}  // namespace

void* scratch_bytes(std::size_t bytes) {
  if (bytes > block.bytes) {
    ::operator delete(block.data, kAlignment);
    block.data = nullptr;
    block.bytes = 0;
    block.data = ::operator new(bytes, kAlignment);
    block.bytes = bytes;
  }
  return block.data;
}

}  // namespace pynn
