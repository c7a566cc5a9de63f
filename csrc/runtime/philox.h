// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011. A word depends on its key and counter alone, so threads
// and layouts cannot change it.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PYNN_ANYWHERE __host__ __device__
#else
#define PYNN_ANYWHERE
#endif

namespace pynn {

// Where a random node stands: the key is the seed; the counter is (step, node, sample, element /
// 4).
struct PhiloxStream {
  std::uint64_t seed;
  std::uint32_t step, node;
};

struct PhiloxBlock {
  std::uint32_t word[4];
};

PYNN_ANYWHERE static inline PhiloxBlock philox(const PhiloxStream& stream, std::uint32_t sample,
                                               std::uint32_t quad) {
  std::uint32_t c0 = stream.step, c1 = stream.node, c2 = sample, c3 = quad;
  std::uint32_t k0 = static_cast<std::uint32_t>(stream.seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(stream.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c0, p1 = std::uint64_t{0xCD9E8D57} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace pynn
