#include "kernels/dropout.h"

#include "simd/outer_product.h"
#include "simd/random_words.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kWords = 1024;

template <typename T>
void forward(const PhiloxStream& stream, std::uint32_t sample, std::int64_t first,
             std::int64_t size, std::uint32_t threshold, T scale, const T* x, T* y) {
  std::uint32_t words[kWords];
  for (std::int64_t begin = 0; begin < size; begin += kWords) {
    const std::int64_t count = size - begin < kWords ? size - begin : kWords;
    random_words(stream, sample, (first + begin) / 4, (count + 3) / 4, words);
    for (std::int64_t i = 0; i < count; ++i)
      y[begin + i] = words[i] < threshold ? T(0) : x[begin + i] * scale;
  }
}

template <typename T>
void forward_block(const PhiloxStream& stream, std::uint32_t sample, std::int64_t first,
                   std::int64_t size, std::uint32_t threshold, T scale, const T* x, T* y) {
  constexpr int lanes = static_cast<int>(kBlockLanes);
  const PhiloxStream local = stream;  // so that no store can seem to change it
  for (std::int64_t begin = 0; begin < size; begin += 4) {
    const auto quad = static_cast<std::uint32_t>((first + begin) / 4);
    std::uint32_t words[4][lanes];
    for (int lane = 0; lane < lanes; ++lane) {
      const PhiloxBlock block = philox(local, sample + static_cast<std::uint32_t>(lane), quad);
      for (int i = 0; i < 4; ++i) words[i][lane] = block.word[i];
    }
    for (std::int64_t i = begin; i < begin + 4 && i < size; ++i)
      for (int lane = 0; lane < lanes; ++lane)
        y[i * lanes + lane] =
            words[i - begin][lane] < threshold ? T(0) : x[i * lanes + lane] * scale;
  }
}

}  // namespace

void get(DropoutKernels<float>& k) { k = {forward<float>, forward_block<float>}; }
void get(DropoutKernels<double>& k) { k = {forward<double>, forward_block<double>}; }

}  // namespace pynn::PYNN_ISA
