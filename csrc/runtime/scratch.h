// Working memory of the calling thread: kept between calls, freed when the thread ends.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn {

// At least `bytes` bytes, aligned to 64. One block per thread: a second call may move it.
void* scratch_bytes(std::size_t bytes);

template <typename T>
T* scratch(std::int64_t count) {
  return static_cast<T*>(scratch_bytes(static_cast<std::size_t>(count) * sizeof(T)));
}

}  // namespace pynn
