// Memory that ends, or begins, right at a page that may not be touched: reading or writing beyond
// it ends the process.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace pynn::test {

enum class Place { kStart, kEnd };  // which end lies at the forbidden page

class Guarded {
 public:
  // At kEnd the memory is aligned to `alignment`, and up to that many bytes may follow it.
  Guarded(std::size_t bytes, Place place, std::size_t alignment = 1) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    body_bytes_ = std::max<std::size_t>((rounded + page - 1) / page, 1) * page;
    all_bytes_ = body_bytes_ + 2 * page;
    void* const memory = mmap(nullptr, all_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    all_ = static_cast<unsigned char*>(memory);
    body_ = all_ + page;
    protect(PROT_READ | PROT_WRITE);
    std::memset(body_, kSlack, body_bytes_);
    data_ = place == Place::kStart ? body_ : body_ + body_bytes_ - rounded;
  }
  ~Guarded() { munmap(all_, all_bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  unsigned char* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  void make_read_only() { protect(PROT_READ); }

  // Nothing was written to what is left of the memory's pages.
  bool slack_intact() const {
    const auto untouched = [](unsigned char byte) { return byte == kSlack; };
    return std::all_of(body_, data_, untouched) &&
           std::all_of(data_ + bytes_, body_ + body_bytes_, untouched);
  }

 private:
  static constexpr unsigned char kSlack = 0xA5;

  void protect(int protection) {
    if (mprotect(body_, body_bytes_, protection) != 0) std::abort();
  }

  std::size_t bytes_, body_bytes_, all_bytes_;
  unsigned char *all_, *body_, *data_;
};

}  // namespace pynn::test
