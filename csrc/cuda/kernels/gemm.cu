#include "cuda/kernels/gemm.h"

#include <array>

#include "cuda/kernels/product.h"

namespace pynn::cuda {
namespace {

template <typename T, Along along_a, Along along_b>
struct GemmProblem {
  struct Part {
    StridedFactor<T, along_a> a;
    StridedFactor<T, along_b> b;
    int begin, end;
    ProductResult<T> result;
    T* row_sums;
  };
  int M, N;
  Part first;
  std::int64_t a_batch, b_batch, y_batch;

  __device__ __forceinline__ Part part(int z) const {
    Part part = first;
    part.a.from += z * a_batch;
    part.b.from += z * b_batch;
    part.result.y += z * y_batch;
    return part;
  }
};

}  // namespace

template <typename T>
void gemm(const GemmShape& s, Precision precision, const T* a, const T* b, bool add, T* y,
          cudaStream_t stream) {
  for (const auto& [rows, row, columns, column] : {std::array{s.M, s.a_row, s.K, s.a_column},
                                                   {s.K, s.b_row, s.N, s.b_column},
                                                   {s.M, s.y_row, s.N, s.y_column}})
    narrow(narrow(rows) * std::int64_t{narrow(row)} +
           narrow(columns) * std::int64_t{narrow(column)});
  ProductResult<T> result(y, s.y_row, s.y_column);
  result.add = add;
  result.find_quads(s.y_batch);
  const auto run = [&](auto along_a, auto along_b) {
    product<T>(
        GemmProblem<T, decltype(along_a)::value, decltype(along_b)::value>{
            narrow(s.M),
            narrow(s.N),
            {{a, narrow(s.a_row), narrow(s.a_column)},
             {b, narrow(s.b_column), narrow(s.b_row)},
             0,
             narrow(s.K),
             result,
             nullptr},
            s.a_batch,
            s.b_batch,
            s.y_batch},
        s.batch, precision, stream);
  };
  constexpr std::integral_constant<Along, Along::terms> terms;
  constexpr std::integral_constant<Along, Along::lines> lines;
  if (s.b_row == 1 && s.b_column != 1)
    run(terms, terms);
  else if (s.a_row == 1 && s.a_column != 1)
    run(lines, lines);
  else
    run(terms, lines);
}

template void gemm(const GemmShape&, Precision, const float*, const float*, bool, float*,
                   cudaStream_t);
template void gemm(const GemmShape&, Precision, const double*, const double*, bool, double*,
                   cudaStream_t);

}  // namespace pynn::cuda
