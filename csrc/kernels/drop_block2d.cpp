// Ghiasi, Lin and Le, "DropBlock: a regularization method for convolutional networks", NeurIPS
// 2018.
#include "kernels/drop_block2d.h"

#include "simd/random_words.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kWords = 1024;

template <typename T>
void forward(const DropBlock2dShape& s, const PhiloxStream& stream, std::uint32_t sample,
             const T* x, T* y) {
  const std::int64_t size = s.C * s.H * s.W;
  for (std::int64_t e = 0; e < size; ++e) y[e] = T(1);  // y holds the mask at first
  std::uint32_t words[kWords];
  for (std::int64_t begin = 0; begin < size; begin += kWords) {
    const std::int64_t count = size - begin < kWords ? size - begin : kWords;
    random_words(stream, sample, begin / 4, (count + 3) / 4, words);
    for (std::int64_t i = 0; i < count; ++i) {
      if (words[i] >= s.threshold) continue;
      const std::int64_t e = begin + i, h = e / s.W % s.H, w = e % s.W;
      if (h > s.H - s.block || w > s.W - s.block) continue;
      for (std::int64_t row = 0; row < s.block; ++row)
        for (std::int64_t column = 0; column < s.block; ++column) y[e + row * s.W + column] = T(0);
    }
  }
  std::int64_t kept = 0;
  for (std::int64_t e = 0; e < size; ++e) kept += y[e] != T(0);
  const T scale = kept ? static_cast<T>(static_cast<double>(size) / static_cast<double>(kept)) : 0;
  for (std::int64_t e = 0; e < size; ++e) y[e] = y[e] != T(0) ? x[e] * scale : T(0);
}

}  // namespace

void get(DropBlock2dKernels<float>& k) { k = {forward<float>}; }
void get(DropBlock2dKernels<double>& k) { k = {forward<double>}; }

}  // namespace pynn::PYNN_ISA
