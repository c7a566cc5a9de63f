// Compiles where NVIDIA's header has the numbers that pynn has.
#include <cublasLt.h>

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "cuda/runtime/cublaslt.h"

namespace {

using namespace pynn::cuda::lt;  // NOLINT: what is checked

template <typename Ours, typename Theirs>
constexpr bool same(Ours ours, Theirs theirs) {
  return sizeof ours == sizeof theirs && static_cast<int>(ours) == static_cast<int>(theirs);
}

static_assert(same(kSuccess, CUBLAS_STATUS_SUCCESS));
static_assert(same(kNotSupported, CUBLAS_STATUS_NOT_SUPPORTED));
static_assert(same(Type::float32, CUDA_R_32F));
static_assert(same(Type::float64, CUDA_R_64F));
static_assert(same(Compute::float32, CUBLAS_COMPUTE_32F));
static_assert(same(Compute::float64, CUBLAS_COMPUTE_64F));
static_assert(same(Compute::bf16, CUBLAS_COMPUTE_32F_FAST_16BF));
static_assert(same(Compute::tf32, CUBLAS_COMPUTE_32F_FAST_TF32));
static_assert(same(OperationAttribute::transpose_a, CUBLASLT_MATMUL_DESC_TRANSA));
static_assert(same(OperationAttribute::transpose_b, CUBLASLT_MATMUL_DESC_TRANSB));
static_assert(same(0, CUBLAS_OP_N) && same(1, CUBLAS_OP_T));
static_assert(same(LayoutAttribute::batch_count, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT));
static_assert(same(LayoutAttribute::batch_stride, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET));
static_assert(same(PreferenceAttribute::most_workspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES));
static_assert(same(PreferenceAttribute::reduction_schemes,
                   CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK));
static_assert(same(PreferenceAttribute::alignment_a, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES));
static_assert(same(PreferenceAttribute::alignment_b, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES));
static_assert(same(PreferenceAttribute::alignment_c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES));
static_assert(same(PreferenceAttribute::alignment_d, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES));
static_assert(kReduceApart == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);

static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Heuristic, workspace) ==
              offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Heuristic, status) == offsetof(cublasLtMatmulHeuristicResult_t, state));

// The functions: as many arguments, each passed alike.
template <typename T>
using Passed = std::conditional_t<std::is_pointer_v<T>, void*,
                                  std::conditional_t<std::is_enum_v<T> || std::is_same_v<T, int>,
                                                     std::integral_constant<int, sizeof(T)>, T>>;
template <typename Function>
struct Signature;
template <typename Result, typename... Arguments>
struct Signature<Result (*)(Arguments...)> {
  using Type = std::tuple<Passed<Result>, Passed<Arguments>...>;
};
#define PYNN_CHECK(name)                                                   \
  static_assert(std::is_same_v<Signature<decltype(Functions::name)>::Type, \
                               Signature<decltype(&cublasLt##name)>::Type>)
PYNN_CHECK(Create);
PYNN_CHECK(MatmulDescCreate);
PYNN_CHECK(MatmulDescDestroy);
PYNN_CHECK(MatmulDescSetAttribute);
PYNN_CHECK(MatrixLayoutCreate);
PYNN_CHECK(MatrixLayoutDestroy);
PYNN_CHECK(MatrixLayoutSetAttribute);
PYNN_CHECK(MatmulPreferenceCreate);
PYNN_CHECK(MatmulPreferenceDestroy);
PYNN_CHECK(MatmulPreferenceSetAttribute);
PYNN_CHECK(MatmulAlgoGetHeuristic);
PYNN_CHECK(Matmul);

}  // namespace
