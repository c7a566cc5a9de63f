#include "plan/memory.h"

#include <algorithm>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pynn {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;

}  // namespace

Memory::Memory(std::int64_t bytes) {
  const std::size_t alignment = static_cast<std::size_t>(bytes) >= 4 * kHugePage ? kHugePage : 64;
  const std::size_t size =
      (static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)) + alignment - 1) / alignment *
      alignment;
  alignment_ = alignment;
  data_ = static_cast<char*>(::operator new(size, std::align_val_t(alignment)));
#if defined(__linux__)
  if (alignment == kHugePage) madvise(data_, size, MADV_HUGEPAGE);
#endif
}

Memory::~Memory() { ::operator delete(data_, std::align_val_t(alignment_)); }

}  // namespace pynn
