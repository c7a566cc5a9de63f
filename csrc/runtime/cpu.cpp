#include "runtime/cpu.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pynn {
namespace {

#if defined(__x86_64__)
// Bits as Intel's manual numbers them: volume 2A, CPUID; volume 1, 13.2 and 15.2.
bool has(unsigned word, int bit) { return (word >> bit & 1) != 0; }

// What the operating system saves when it switches between threads (XCR0).
std::uint32_t saved_state() {
  std::uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}
#endif

CpuFeatures find() {
  CpuFeatures found;
#if defined(__x86_64__)
  unsigned a, b, c, d, b7;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27)) return found;
  const bool fma = has(c, 12);
  if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d)) return found;
  constexpr std::uint32_t kYmm = 0x06, kZmm = 0xe6;
  const std::uint32_t saved = saved_state();
  found.avx2 = fma && has(b7, 5) && (saved & kYmm) == kYmm;
  found.avx512 = found.avx2 && has(b7, 16) && has(b7, 17) && has(b7, 30) && has(b7, 31) &&
                 (saved & kZmm) == kZmm;
#endif
  return found;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = find();
  return features;
}

}  // namespace pynn
