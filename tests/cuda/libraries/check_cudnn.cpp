// Compiles where NVIDIA's header has the numbers that pynn has.
#include <cudnn.h>

#include <tuple>
#include <type_traits>

#include "cuda/runtime/cudnn.h"

namespace {

using namespace pynn::cuda::dnn;  // NOLINT: what is checked

template <typename Ours, typename Theirs>
constexpr bool same(Ours ours, Theirs theirs) {
  return sizeof ours == sizeof theirs && static_cast<int>(ours) == static_cast<int>(theirs);
}

static_assert(CUDNN_MAJOR == 9);
static_assert(same(kSuccess, CUDNN_STATUS_SUCCESS));
static_assert(same(kNotSupported, CUDNN_STATUS_NOT_SUPPORTED));
static_assert(not_supported(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN));
static_assert(not_supported(CUDNN_STATUS_NOT_SUPPORTED_SHARED_MEMORY_INSUFFICIENT));
static_assert(!not_supported(CUDNN_STATUS_BAD_PARAM) &&
              !not_supported(CUDNN_STATUS_INTERNAL_ERROR));

static_assert(same(Kind::convolution, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR));
static_assert(same(Kind::engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR));
static_assert(same(Kind::configuration, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
static_assert(same(Kind::heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR));
static_assert(same(Kind::plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
static_assert(same(Kind::forward, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR));
static_assert(same(Kind::backward_weight,
                   CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR));
static_assert(same(Kind::backward_input,
                   CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR));
static_assert(same(Kind::graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
static_assert(same(Kind::pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
static_assert(same(Kind::tensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR));

#define PYNN_SAME(ours, theirs) static_assert(same(Attribute::ours, CUDNN_ATTR_##theirs))
PYNN_SAME(convolution_sums, CONVOLUTION_COMP_TYPE);
PYNN_SAME(convolution_mode, CONVOLUTION_CONV_MODE);
PYNN_SAME(convolution_dilations, CONVOLUTION_DILATIONS);
PYNN_SAME(convolution_strides, CONVOLUTION_FILTER_STRIDES);
PYNN_SAME(convolution_after, CONVOLUTION_POST_PADDINGS);
PYNN_SAME(convolution_before, CONVOLUTION_PRE_PADDINGS);
PYNN_SAME(convolution_dimensions, CONVOLUTION_SPATIAL_DIMS);
PYNN_SAME(heuristics_mode, ENGINEHEUR_MODE);
PYNN_SAME(heuristics_graph, ENGINEHEUR_OPERATION_GRAPH);
PYNN_SAME(heuristics_results, ENGINEHEUR_RESULTS);
PYNN_SAME(configuration_engine, ENGINECFG_ENGINE);
PYNN_SAME(plan_context, EXECUTION_PLAN_HANDLE);
PYNN_SAME(plan_configuration, EXECUTION_PLAN_ENGINE_CONFIG);
PYNN_SAME(plan_workspace, EXECUTION_PLAN_WORKSPACE_SIZE);
PYNN_SAME(forward_alpha, OPERATION_CONVOLUTION_FORWARD_ALPHA);
PYNN_SAME(forward_beta, OPERATION_CONVOLUTION_FORWARD_BETA);
PYNN_SAME(forward_convolution, OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
PYNN_SAME(forward_w, OPERATION_CONVOLUTION_FORWARD_W);
PYNN_SAME(forward_x, OPERATION_CONVOLUTION_FORWARD_X);
PYNN_SAME(forward_y, OPERATION_CONVOLUTION_FORWARD_Y);
PYNN_SAME(backward_input_alpha, OPERATION_CONVOLUTION_BWD_DATA_ALPHA);
PYNN_SAME(backward_input_beta, OPERATION_CONVOLUTION_BWD_DATA_BETA);
PYNN_SAME(backward_input_convolution, OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC);
PYNN_SAME(backward_input_w, OPERATION_CONVOLUTION_BWD_DATA_W);
PYNN_SAME(backward_input_dx, OPERATION_CONVOLUTION_BWD_DATA_DX);
PYNN_SAME(backward_input_dy, OPERATION_CONVOLUTION_BWD_DATA_DY);
PYNN_SAME(backward_weight_alpha, OPERATION_CONVOLUTION_BWD_FILTER_ALPHA);
PYNN_SAME(backward_weight_beta, OPERATION_CONVOLUTION_BWD_FILTER_BETA);
PYNN_SAME(backward_weight_convolution, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC);
PYNN_SAME(backward_weight_dw, OPERATION_CONVOLUTION_BWD_FILTER_DW);
PYNN_SAME(backward_weight_x, OPERATION_CONVOLUTION_BWD_FILTER_X);
PYNN_SAME(backward_weight_dy, OPERATION_CONVOLUTION_BWD_FILTER_DY);
PYNN_SAME(graph_context, OPERATIONGRAPH_HANDLE);
PYNN_SAME(graph_operations, OPERATIONGRAPH_OPS);
PYNN_SAME(tensor_alignment, TENSOR_BYTE_ALIGNMENT);
PYNN_SAME(tensor_type, TENSOR_DATA_TYPE);
PYNN_SAME(tensor_sizes, TENSOR_DIMENSIONS);
PYNN_SAME(tensor_strides, TENSOR_STRIDES);
PYNN_SAME(tensor_number, TENSOR_UNIQUE_ID);
PYNN_SAME(pack_numbers, VARIANT_PACK_UNIQUE_IDS);
PYNN_SAME(pack_pointers, VARIANT_PACK_DATA_POINTERS);
PYNN_SAME(pack_workspace, VARIANT_PACK_WORKSPACE);
PYNN_SAME(engine_notes, ENGINE_NUMERICAL_NOTE);
#undef PYNN_SAME

static_assert(same(Type::context, CUDNN_TYPE_HANDLE));
static_assert(same(Type::data_type, CUDNN_TYPE_DATA_TYPE));
static_assert(same(Type::int64, CUDNN_TYPE_INT64));
static_assert(same(Type::float32, CUDNN_TYPE_FLOAT));
static_assert(same(Type::float64, CUDNN_TYPE_DOUBLE));
static_assert(same(Type::pointer, CUDNN_TYPE_VOID_PTR));
static_assert(same(Type::mode, CUDNN_TYPE_CONVOLUTION_MODE));
static_assert(same(Type::heuristics, CUDNN_TYPE_HEUR_MODE));
static_assert(same(Type::note, CUDNN_TYPE_NUMERICAL_NOTE));
static_assert(same(Type::descriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR));

static_assert(same(DataType::float32, CUDNN_DATA_FLOAT));
static_assert(same(DataType::float64, CUDNN_DATA_DOUBLE));
static_assert(same(Mode::cross_correlation, CUDNN_CROSS_CORRELATION));
static_assert(same(Heuristics::fallback, CUDNN_HEUR_MODE_FALLBACK));
static_assert(same(Heuristics::ranked, CUDNN_HEUR_MODE_A));
static_assert(same(Note::tensor_cores, CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
static_assert(same(Note::inputs_rounded, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
static_assert(same(Note::sums_rounded, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION));
static_assert(same(Note::fourier, CUDNN_NUMERICAL_NOTE_FFT));
static_assert(same(Note::not_deterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
static_assert(same(Note::winograd, CUDNN_NUMERICAL_NOTE_WINOGRAD));
static_assert(same(Note::winograd_4x4, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4));
static_assert(same(Note::winograd_6x6, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6));
static_assert(same(Note::winograd_13x13, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13));
static_assert(same(Note::nan_propagates, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP));

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
                               Signature<decltype(&cudnn##name)>::Type>)
PYNN_CHECK(Create);
PYNN_CHECK(SetStream);
PYNN_CHECK(BackendCreateDescriptor);
PYNN_CHECK(BackendDestroyDescriptor);
PYNN_CHECK(BackendSetAttribute);
PYNN_CHECK(BackendGetAttribute);
PYNN_CHECK(BackendFinalize);
PYNN_CHECK(BackendExecute);

}  // namespace
