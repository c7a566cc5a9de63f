// What the bindings of random operators share.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/philox.h"

namespace pynn {

// Modulo 2^32.
inline std::uint32_t low_word(std::int64_t value) { return static_cast<std::uint32_t>(value); }

inline PhiloxStream philox_stream(std::uint64_t seed, std::int64_t step, std::int64_t node) {
  return {seed, low_word(step), low_word(node)};
}

// A word below it comes with probability p; 2^32 for p = 1.
inline std::uint64_t drop_threshold(double p) {
  return static_cast<std::uint64_t>(std::floor(p * 4294967296.0));
}

}  // namespace pynn
