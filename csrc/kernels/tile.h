// What products and convolutions on arrays share.
#pragma once

#include "simd/pack.h"

namespace pynn::PYNN_ISA {
namespace {

// Rows of a register tile; it is two vectors wide, and both must leave room for a row of B and a
// value of A.
#if defined(__AVX512F__)
constexpr int kRows = 12;
#elif defined(__AVX2__)
constexpr int kRows = 6;
#elif defined(__aarch64__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif

PYNN_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace pynn::PYNN_ISA
