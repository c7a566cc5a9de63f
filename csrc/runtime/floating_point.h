// What becomes of numbers below the smallest normal one. Processors compute with them a hundred
// times more slowly, and trainings are full of them: probabilities of classes that are out of the
// question, weights that decay to nothing.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace pynn {

#if defined(__x86_64__) || defined(_M_X64)
using FloatingPointMode = std::uint32_t;
constexpr FloatingPointMode kFlushing = 0x8040;  // of results, and of operands
constexpr std::uint32_t kExceptionFlags = 0x3f;  // what happened, not what is to happen
inline FloatingPointMode floating_point_mode() { return _mm_getcsr() & ~kExceptionFlags; }
inline void set_floating_point_mode(FloatingPointMode mode) {
  _mm_setcsr(mode | (_mm_getcsr() & kExceptionFlags));
}
#elif defined(__aarch64__)
using FloatingPointMode = std::uint64_t;
constexpr FloatingPointMode kFlushing = std::uint64_t{1} << 24;
inline FloatingPointMode floating_point_mode() {
  FloatingPointMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
inline void set_floating_point_mode(FloatingPointMode mode) {
  asm volatile("msr fpcr, %0" : : "r"(mode));
}
#else
using FloatingPointMode = int;
constexpr FloatingPointMode kFlushing = 0;
inline FloatingPointMode floating_point_mode() { return 0; }
inline void set_floating_point_mode(FloatingPointMode) {}
#endif

// While it lives, subnormal numbers count as zero: in this thread, and in those that work for it.
class FlushSubnormals {
 public:
  FlushSubnormals() { set_floating_point_mode(before_ | kFlushing); }
  ~FlushSubnormals() { set_floating_point_mode(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  const FloatingPointMode before_ = floating_point_mode();
};

}  // namespace pynn
