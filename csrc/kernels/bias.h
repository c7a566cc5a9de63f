#pragma once

#include <cstdint>

namespace pynn {

template <typename T>
struct BiasKernels {
  // y (rows, columns) = x (rows, columns) + b (columns,). Overwrites y.
  void (*forward)(std::int64_t rows, std::int64_t columns, const T* x, const T* b, T* y);
  // db[begin ... end) = the sums of those columns of dy (rows, columns), in double and in order of
  // the rows. Overwrites db.
  void (*backward)(std::int64_t rows, std::int64_t columns, std::int64_t begin, std::int64_t end,
                   const T* dy, T* db);
  // y = x + b for 16 samples that lie in the lanes: x, y (columns, 16). Overwrites y.
  void (*forward_block)(std::int64_t columns, const T* x, const T* b, T* y);
};

}  // namespace pynn
