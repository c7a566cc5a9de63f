#include "cuda/kernels/gemm.h"

#include <array>

#include "cuda/kernels/strided_product.h"

namespace pynn::cuda {

template <typename T>
void gemm(const GemmShape& s, Precision precision, const T* a, const T* b, bool add, T* y,
          cudaStream_t stream) {
  for (const auto& [rows, row, columns, column] : {std::array{s.M, s.a_row, s.K, s.a_column},
                                                   {s.K, s.b_row, s.N, s.b_column},
                                                   {s.M, s.y_row, s.N, s.y_column}})
    narrow(narrow(rows) * std::int64_t{narrow(row)} +
           narrow(columns) * std::int64_t{narrow(column)});
  StridedProduct<T> product;
  product.M = narrow(s.M), product.N = narrow(s.N), product.K = narrow(s.K);
  product.a = a, product.a_row = narrow(s.a_row), product.a_column = narrow(s.a_column);
  product.b = b, product.b_row = narrow(s.b_row), product.b_column = narrow(s.b_column);
  product.result = ProductResult<T>(y, s.y_row, s.y_column);
  product.result.add = add;
  product.result.find_quads(s.y_batch);
  product.batch = s.batch;
  product.a_batch = s.a_batch, product.b_batch = s.b_batch, product.y_batch = s.y_batch;
  strided_product(product, precision, stream);
}

template void gemm(const GemmShape&, Precision, const float*, const float*, bool, float*,
                   cudaStream_t);
template void gemm(const GemmShape&, Precision, const double*, const double*, bool, double*,
                   cudaStream_t);

}  // namespace pynn::cuda
