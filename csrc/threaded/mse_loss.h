// The squared error of arrays on several threads.
#pragma once

#include <algorithm>
#include <vector>

#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn::threaded {

// prediction, target, gradient (size,). Returns the sum of squared differences; gradient =
// gradient_scale * (prediction - target), unless it is null.
template <typename T>
double squared_error(std::int64_t size, const T* prediction, const T* target, T gradient_scale,
                     T* gradient) {
  constexpr std::int64_t kBlock = 4096;  // summed together; the sums are added in order
  const std::int64_t blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  parallel_for(blocks, kBlock * kWorkPerMove, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kBlock;
      sums[static_cast<std::size_t>(block)] = isa_table<T>().mse_loss.sum(
          std::min(kBlock, size - first), prediction + first, target + first, gradient_scale,
          gradient ? gradient + first : nullptr);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace pynn::threaded
