// Products cut into parts for the threads: whole tiles of rows, or where there are few of them,
// whole tiles of columns.
#pragma once

#include <algorithm>

#include "plan/stage.h"

namespace pynn {

template <typename T>
void parallel_product(const OuterProduct<T>& product) {
  const auto& kernels = isa_table<T>().outer_product;
  const auto tiles = [](std::int64_t count, std::int64_t size) {
    return std::max<std::int64_t>((count + size - 1) / size, 1);
  };
  const std::int64_t row_tiles = tiles(product.rows, kernels.rows);
  const std::int64_t column_tiles = tiles(product.columns, kernels.columns);
  const bool by_rows = row_tiles >= 8 || row_tiles >= column_tiles;
  const std::int64_t units = by_rows ? row_tiles : column_tiles;
  const std::int64_t work = 2 * product.rows * product.columns * kBlockLanes * product.depth;
  parallel_for(units, work / units, [&](std::int64_t begin, std::int64_t end) {
    OuterProduct<T> part = product;
    if (by_rows) {
      const std::int64_t first = product.rows * begin / units;
      part.rows = product.rows * end / units - first;
      part.a += first * product.a_row;
      part.c += first * product.c_row;
      if (part.bias) part.bias += first;
      if (part.mask) part.mask += first * product.c_row;
    } else {
      const std::int64_t first = product.columns * begin / units;
      part.columns = product.columns * end / units - first;
      part.b_columns += first;
      part.c_columns += first;
      if (first + part.columns < product.columns) part.last_lanes = kBlockLanes;
    }
    kernels.run(part);
  });
}

// 0, step, 2 step, ...
template <typename Integer>
std::vector<Integer> multiples(std::int64_t count, std::int64_t step) {
  std::vector<Integer> result(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    result[static_cast<std::size_t>(i)] = static_cast<Integer>(i * step);
  return result;
}

}  // namespace pynn
