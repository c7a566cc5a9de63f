#pragma once

namespace pynn {

// Fetches a line of the cache that is to be written, so that no other processor has it any more.
// __builtin_prefetch does so only where the compiler is told that the instruction exists; x86
// processors of 64 bits without it pass over it.
inline __attribute__((always_inline)) void prefetch_to_write(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1);
#endif
}

}  // namespace pynn
