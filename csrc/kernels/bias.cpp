#include "kernels/bias.h"

#include "simd/outer_product.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void forward(std::int64_t rows, std::int64_t columns, const T* x, const T* b, T* y) {
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t j = 0; j < columns; ++j) y[row * columns + j] = x[row * columns + j] + b[j];
}

template <typename T>
void backward(std::int64_t rows, std::int64_t columns, std::int64_t begin, std::int64_t end,
              const T* dy, T* db) {
  constexpr std::int64_t block = 64;
  for (std::int64_t first = begin; first < end; first += block) {
    const std::int64_t count = end - first < block ? end - first : block;
    double sum[block] = {};
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t j = 0; j < count; ++j)
        sum[j] += static_cast<double>(dy[row * columns + first + j]);
    for (std::int64_t j = 0; j < count; ++j) db[first + j] = static_cast<T>(sum[j]);
  }
}

template <typename T>
void forward_block(std::int64_t columns, const T* x, const T* b, T* y) {
  constexpr int lanes = static_cast<int>(kBlockLanes);
  for (std::int64_t i = 0; i < columns; ++i) {
    const T value = b[i];
    for (int lane = 0; lane < lanes; ++lane) y[i * lanes + lane] = x[i * lanes + lane] + value;
  }
}

}  // namespace

void get(BiasKernels<float>& k) { k = {forward<float>, backward<float>, forward_block<float>}; }
void get(BiasKernels<double>& k) { k = {forward<double>, backward<double>, forward_block<double>}; }

}  // namespace pynn::PYNN_ISA
