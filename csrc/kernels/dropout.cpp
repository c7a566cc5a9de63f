#include "kernels/dropout.h"

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

}  // namespace

void get(DropoutKernels<float>& k) { k = {forward<float>}; }
void get(DropoutKernels<double>& k) { k = {forward<double>}; }

}  // namespace pynn::PYNN_ISA
