#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn {

// Memory of one pass; a plan may have several at once.
class Memory {
 public:
  explicit Memory(std::int64_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data() const { return data_; }

 private:
  char* data_;
  std::size_t alignment_;
};

}  // namespace pynn
