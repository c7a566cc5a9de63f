#include "cuda/plan/large_product.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "cuda/plan/operation.h"
#include "cuda/runtime/errors.h"
#include "runtime/errors.h"

namespace pynn::cuda {
namespace {

constexpr std::uint32_t kAligned = 16;
constexpr std::uint64_t kMostWorkspace = 32 << 20;   // what NVIDIA recommends for Hopper
constexpr std::uintptr_t kWorkspaceAlignment = 256;  // which the library asks for

std::atomic<double> least_flops{kLargeProduct};

template <typename T>
lt::Compute compute_type(Precision precision) {
  if (sizeof(T) == 8) return lt::Compute::float64;
  if (precision == Precision::tf32) return lt::Compute::tf32;
  if (precision == Precision::bf16) return lt::Compute::bf16;
  return lt::Compute::float32;
}

// The same product with a and b in each other's place: y^T = b^T a^T.
GemmShape transposed(const GemmShape& s) {
  return {s.N,        s.M,     s.K,       s.batch,    s.b_column, s.b_row,  s.b_batch,
          s.a_column, s.a_row, s.a_batch, s.y_column, s.y_row,    s.y_batch};
}

template <typename Attribute, typename Value, typename Object>
bool set(int (*function)(Object*, Attribute, const void*, std::size_t), Object* object,
         Attribute attribute, Value value) {
  return function(object, attribute, &value, sizeof value) == lt::kSuccess;
}

bool begins_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kAligned == 0;
}

}  // namespace

double large_product_flops() { return least_flops; }
void set_large_product_flops(double flops) { least_flops = flops; }

// A matrix as it lies in memory, column-major: the factor, or its transpose. No rows: it does not
// lie so.
template <typename T>
struct LargeProduct<T>::Matrix {
  std::int64_t rows = 0, columns = 0, leading = 0, batch = 0;
  bool transpose = false;
};

// Element (i, j) at i * down + j * across.
template <typename T>
typename LargeProduct<T>::Matrix LargeProduct<T>::find_matrix(std::int64_t rows,
                                                              std::int64_t columns,
                                                              std::int64_t down,
                                                              std::int64_t across,
                                                              std::int64_t batch) {
  if (down == 1 && across >= rows) return {rows, columns, across, batch, false};
  if (across == 1 && down >= columns) return {columns, rows, down, batch, true};
  return {};
}

template <typename T>
typename LargeProduct<T>::Layout LargeProduct<T>::make_layout(const Matrix& matrix,
                                                              std::int64_t count) {
  const lt::Functions& f = *lt::functions();
  lt::Layout* made = nullptr;
  if (f.MatrixLayoutCreate(&made, sizeof(T) == 8 ? lt::Type::float64 : lt::Type::float32,
                           static_cast<std::uint64_t>(matrix.rows),
                           static_cast<std::uint64_t>(matrix.columns),
                           matrix.leading) != lt::kSuccess)
    return nullptr;
  Layout layout(made);
  const bool batched =
      count == 1 ||
      (set(f.MatrixLayoutSetAttribute, made, lt::LayoutAttribute::batch_count,
           static_cast<std::int32_t>(count)) &&
       set(f.MatrixLayoutSetAttribute, made, lt::LayoutAttribute::batch_stride, matrix.batch));
  return batched ? std::move(layout) : nullptr;
}

template <typename T>
LargeProduct<T>::LargeProduct(const GemmShape& shape, Precision precision) {
  const double flops = 2.0 * static_cast<double>(shape.M) * static_cast<double>(shape.N) *
                       static_cast<double>(shape.K) * static_cast<double>(shape.batch);
  if (flops <= 0 || flops < least_flops || !lt::context()) return;
  if (!describe(shape, precision)) return;
  aligned_ = choose(kAligned);
  loose_ = choose(sizeof(T));
}

// The library's matrices are column-major, so that y, row-major, is the transpose of its result.
template <typename T>
bool LargeProduct<T>::describe(const GemmShape& shape, Precision precision) {
  swapped_ = shape.y_column != 1;
  const GemmShape s = swapped_ ? transposed(shape) : shape;
  const Matrix left = find_matrix(s.N, s.K, s.b_column, s.b_row, s.b_batch);
  const Matrix right = find_matrix(s.K, s.M, s.a_column, s.a_row, s.a_batch);
  const Matrix result = find_matrix(s.N, s.M, s.y_column, s.y_row, s.y_batch);
  if (!left.rows || !right.rows || !result.rows || result.transpose) return false;
  left_ = make_layout(left, s.batch);
  right_ = make_layout(right, s.batch);
  result_ = make_layout(result, s.batch);
  const lt::Functions& f = *lt::functions();
  lt::Operation* made = nullptr;
  if (f.MatmulDescCreate(&made, compute_type<T>(precision),
                         sizeof(T) == 8 ? lt::Type::float64 : lt::Type::float32) != lt::kSuccess)
    return false;
  operation_.reset(made);
  return left_ && right_ && result_ &&
         set(f.MatmulDescSetAttribute, made, lt::OperationAttribute::transpose_a,
             std::int32_t{left.transpose}) &&
         set(f.MatmulDescSetAttribute, made, lt::OperationAttribute::transpose_b,
             std::int32_t{right.transpose});
}

template <typename T>
typename LargeProduct<T>::Choice LargeProduct<T>::choose(std::uint32_t alignment) const {
  using Attribute = lt::PreferenceAttribute;
  const lt::Functions& f = *lt::functions();
  lt::Preference* made = nullptr;
  if (f.MatmulPreferenceCreate(&made) != lt::kSuccess) return {};
  const std::unique_ptr<lt::Preference,
                        Destroy<lt::Preference, &lt::Functions::MatmulPreferenceDestroy>>
      preference(made);
  bool wanted =
      set(f.MatmulPreferenceSetAttribute, made, Attribute::most_workspace, kMostWorkspace) &&
      set(f.MatmulPreferenceSetAttribute, made, Attribute::reduction_schemes, lt::kReduceApart);
  for (const Attribute attribute : {Attribute::alignment_a, Attribute::alignment_b,
                                    Attribute::alignment_c, Attribute::alignment_d})
    wanted = wanted && set(f.MatmulPreferenceSetAttribute, made, attribute, alignment);
  lt::Heuristic best{};
  int found = 0;
  if (!wanted ||
      f.MatmulAlgoGetHeuristic(lt::context(), operation_.get(), left_.get(), right_.get(),
                               result_.get(), result_.get(), made, 1, &best,
                               &found) != lt::kSuccess ||
      found < 1 || best.status != lt::kSuccess)
    return {};
  return {true, best.algorithm, best.workspace};
}

template <typename T>
std::int64_t LargeProduct<T>::workspace() const {
  const std::size_t bytes = std::max(aligned_.workspace, loose_.workspace);
  return bytes ? aligned(static_cast<std::int64_t>(bytes + kWorkspaceAlignment)) : 0;
}

template <typename T>
bool LargeProduct<T>::run(const T* a, const T* b, bool add, T* y, char* workspace,
                          cudaStream_t stream) const {
  const bool all_aligned = begins_aligned(a) && begins_aligned(b) && begins_aligned(y);
  const Choice& choice = all_aligned && aligned_.found ? aligned_ : loose_;
  lt::Context* const context = choice.found ? lt::context() : nullptr;
  if (!context) return false;
  if (swapped_) std::swap(a, b);
  workspace +=
      (kWorkspaceAlignment - reinterpret_cast<std::uintptr_t>(workspace)) % kWorkspaceAlignment;
  const T alpha = 1, beta = add ? 1 : 0;
  const int status =
      lt::functions()->Matmul(context, operation_.get(), &alpha, b, left_.get(), a, right_.get(),
                              &beta, y, result_.get(), y, result_.get(), &choice.algorithm,
                              choice.workspace ? workspace : nullptr, choice.workspace, stream);
  if (status == lt::kNotSupported) return false;
  if (status != lt::kSuccess)
    throw DeviceError(message("a product by cuBLASLt failed with its status ", status));
  return true;
}

template class LargeProduct<float>;
template class LargeProduct<double>;

}  // namespace pynn::cuda
