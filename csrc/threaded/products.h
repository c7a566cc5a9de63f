// Products of matrices on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "runtime/scratch.h"
#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn {

// Which matrices are multiplied: result i is the sum, in order, of the products of terms first[i]
// ... first[i + 1].
struct Terms {
  struct Term {
    std::int64_t a, b;  // ordinals of the matrices
  };
  std::vector<std::int64_t> first{0, 1};
  std::vector<Term> terms{{0, 0}};

  std::int64_t results() const { return static_cast<std::int64_t>(first.size()) - 1; }
};

// Reading one element of a matrix costs as much as so many operations: with few rows or columns, it
// is what takes the time.
constexpr std::int64_t kWorkPerElement = 16;

// Bytes, at most, of a matrix that a thread packs once for all its parts of a product.
constexpr std::int64_t kMostPackedBytes = 4 << 20;

inline const Terms kOneProduct;

template <typename T>
std::int64_t work_of(const Gemm<T>& common, const Terms& terms = kOneProduct) {
  const std::int64_t work = std::max(2 * std::min(common.M, common.N), kWorkPerElement) *
                            std::max(common.M, common.N) * common.K;
  return work * static_cast<std::int64_t>(terms.terms.size());
}

// c (results, M, N) from a (*, a_size elements) and b (*, b_size elements); `common` gives sizes,
// strides, starts, whether c is added to, and where the arrays begin.
template <typename T>
void multiply(const Gemm<T>& common, const Terms& terms = kOneProduct, std::int64_t a_size = 0,
              std::int64_t b_size = 0) {
  const bool by_rows = common.M >= common.N;
  const std::int64_t size = by_rows ? common.M : common.N;
  const std::int64_t smallest_unit = by_rows ? kGemmRowUnit : kGemmColumnUnit;
  // All parts of a product read the smaller matrix. A thread that is given several parts packs it
  // once for them. If it is too large for that, it is packed for each, and parts are larger.
  const std::int64_t packed_size =
      by_rows ? (common.N + kGemmColumnUnit - 1) / kGemmColumnUnit * kGemmColumnUnit * common.K
              : common.M * common.K + 64;
  const bool small = packed_size * std::int64_t{sizeof(T)} <= kMostPackedBytes;
  constexpr std::int64_t kManyUnits = 16;
  const std::int64_t unit_size =
      smallest_unit *
      (small ? 1 : std::clamp<std::int64_t>(size / (smallest_unit * kManyUnits), 1, 8));
  const std::int64_t units = (size + unit_size - 1) / unit_size;
  const std::int64_t all = terms.results() * units;
  if (all == 0) return;
  const std::int64_t work = work_of(common, terms) / all;
  const bool once = small && terms.terms.size() == 1 && std::min(common.M, common.N) > 1 &&
                    goes_in_pieces(all, work);
  static std::atomic<std::uint64_t> products{0};
  const std::uint64_t number = once ? ++products : 0;
  parallel_for(all, work, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::uint64_t packed_for = 0;  // the product whose matrix is in scratch
    T* const working_memory = scratch<T>(kGemmScratch + (once ? packed_size : 0));
    T* const packed = once ? working_memory + kGemmScratch : nullptr;
    const auto& kernels = isa_table<T>().gemm;
    if (once && packed_for != number) {
      Gemm<T> whole = common;
      whole.a += terms.terms[0].a * a_size;
      whole.b += terms.terms[0].b * b_size;
      (by_rows ? kernels.pack_b : kernels.pack_a)(whole, packed);
      packed_for = number;
    }
    std::int64_t last;
    for (std::int64_t unit = begin; unit < end; unit = last) {
      const std::int64_t result = unit / units;
      last = std::min(end, (result + 1) * units);
      const std::int64_t from = (unit - result * units) * unit_size;
      const std::int64_t to = std::min(size, (last - result * units) * unit_size);
      const std::int64_t row = by_rows ? from : 0, column = by_rows ? 0 : from;

      Gemm<T> part = common;
      (by_rows ? part.packed_b : part.packed_a) = packed;
      (by_rows ? part.M : part.N) = to - from;
      part.c = common.c + result * common.M * common.N + row * common.c_row + column;
      if (part.row_start) part.row_start += row;
      if (part.column_start) part.column_start += column;
      const std::int64_t first = terms.first[static_cast<std::size_t>(result)];
      const std::int64_t past = terms.first[static_cast<std::size_t>(result) + 1];
      if (first == past) {  // a sum of nothing
        part.K = 0;
        kernels.run(part, working_memory);
      }
      for (std::int64_t i = first; i < past; ++i) {
        const Terms::Term& term = terms.terms[static_cast<std::size_t>(i)];
        part.a = common.a + term.a * a_size + row * common.a_row;
        part.b = common.b + term.b * b_size + column * common.b_column;
        part.accumulate = common.accumulate || i > first;
        kernels.run(part, working_memory);
      }
    }
  });
}

}  // namespace pynn
