#pragma once

#include "runtime/philox.h"

namespace pynn::PYNN_ISA {
namespace {

// words (4 * quads,): those of the elements 4 * first_quad ... of one sample.
inline void random_words(const PhiloxStream& stream, std::uint32_t sample, std::int64_t first_quad,
                         std::int64_t quads, std::uint32_t* words) {
  const PhiloxStream local = stream;  // so that no store to words can seem to change it
  const auto first = static_cast<std::uint32_t>(first_quad);
  for (std::int64_t q = 0; q < quads; ++q) {
    const PhiloxBlock block = philox(local, sample, first + static_cast<std::uint32_t>(q));
    for (int i = 0; i < 4; ++i) words[4 * q + i] = block.word[i];
  }
}

}  // namespace
}  // namespace pynn::PYNN_ISA
