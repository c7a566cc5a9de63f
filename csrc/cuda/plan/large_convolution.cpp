#include "cuda/plan/large_convolution.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <utility>

#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/layout.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/plan/operation.h"
#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"
#include "runtime/errors.h"

namespace pynn::cuda {
namespace {

using dnn::Attribute, dnn::Builder, dnn::Descriptor, dnn::Kind, dnn::Note;
using Sizes = std::array<std::int64_t, 4>;
using Pair = std::array<std::int64_t, 2>;

constexpr std::int64_t kAligned = 16;  // bytes, as fast loads need it
// As of products, and twice the images': engines with tensor cores lay them out anew, a few
// channels with some more.
constexpr std::int64_t kMostWorkspace = 32 << 20, kMostOfImages = 2;
constexpr std::uintptr_t kWorkspaceAlignment = 256;
constexpr std::int64_t kA = 1, kB = 2, kResult = 3;  // the tensors' numbers

std::atomic<double> least_flops{kLargeConvolution};

// What the library calls an operation's attributes.
struct Names {
  Kind kind;
  Attribute alpha, beta, convolution, a, b, result;
};
constexpr Names kForward = {Kind::forward,           Attribute::forward_alpha,
                            Attribute::forward_beta, Attribute::forward_convolution,
                            Attribute::forward_w,    Attribute::forward_x,
                            Attribute::forward_y};
constexpr Names kBackwardInput = {
    Kind::backward_input,           Attribute::backward_input_alpha,
    Attribute::backward_input_beta, Attribute::backward_input_convolution,
    Attribute::backward_input_w,    Attribute::backward_input_dy,
    Attribute::backward_input_dx};
constexpr Names kBackwardWeight = {
    Kind::backward_weight,           Attribute::backward_weight_alpha,
    Attribute::backward_weight_beta, Attribute::backward_weight_convolution,
    Attribute::backward_weight_dy,   Attribute::backward_weight_x,
    Attribute::backward_weight_dw};

std::int64_t count_of(const Sizes& sizes) { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
// Of one sample.
std::int64_t features_of(const Sizes& sizes) { return sizes[1] * sizes[2] * sizes[3]; }

template <typename T>
dnn::Owned make_tensor(std::int64_t number, const Sizes& sizes) {
  return Builder(Kind::tensor)
      .set(Attribute::tensor_type, sizeof(T) == 8 ? dnn::DataType::float64 : dnn::DataType::float32)
      .set(Attribute::tensor_sizes, sizes)
      .set(Attribute::tensor_strides,
           Sizes{features_of(sizes), sizes[2] * sizes[3], sizes[3], std::int64_t{1}})
      .set(Attribute::tensor_alignment, kAligned)
      .set(Attribute::tensor_number, number)
      .finish();
}

template <typename T>
dnn::Owned make_geometry(const Window& w) {
  return Builder(Kind::convolution)
      .set(Attribute::convolution_sums,
           sizeof(T) == 8 ? dnn::DataType::float64 : dnn::DataType::float32)
      .set(Attribute::convolution_mode, dnn::Mode::cross_correlation)
      .set(Attribute::convolution_dimensions, std::int64_t{2})
      .set(Attribute::convolution_dilations, Pair{w.dilation_h, w.dilation_w})
      .set(Attribute::convolution_strides, Pair{w.stride_h, w.stride_w})
      .set(Attribute::convolution_before, Pair{w.top, w.left})
      .set(Attribute::convolution_after, Pair{w.bottom, w.right})
      .finish();
}

// Configurations of engines for a graph, the best first.
std::vector<dnn::Owned> find_configurations(Descriptor* graph, dnn::Heuristics mode) {
  const dnn::Owned heuristics = Builder(Kind::heuristics)
                                    .set(Attribute::heuristics_graph, graph)
                                    .set(Attribute::heuristics_mode, mode)
                                    .finish();
  const auto get = [&](std::int64_t wanted, Descriptor** to) {
    std::int64_t count = 0;
    const int status = dnn::functions()->BackendGetAttribute(
        heuristics.get(), Attribute::heuristics_results, dnn::Type::descriptor, wanted, &count, to);
    return status == dnn::kSuccess ? static_cast<std::size_t>(count) : 0;
  };
  std::vector<dnn::Owned> found;
  if (!heuristics) return found;
  found.resize(get(0, nullptr));
  std::vector<Descriptor*> pointers;
  for (dnn::Owned& each : found) {
    each = dnn::create(Kind::configuration);
    if (!each) return {};
    pointers.push_back(each.get());
  }
  const std::size_t count = get(static_cast<std::int64_t>(found.size()), pointers.data());
  found.resize(std::min(count, found.size()));
  return found;
}

std::int64_t workspace_of(Descriptor* plan) {
  std::int64_t bytes = 0, count = 0;
  const int status = dnn::functions()->BackendGetAttribute(plan, Attribute::plan_workspace,
                                                           dnn::Type::int64, 1, &count, &bytes);
  return status == dnn::kSuccess ? bytes : std::numeric_limits<std::int64_t>::max();
}

bool begins_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kAligned == 0;
}

}  // namespace

double large_convolution_flops() { return least_flops; }
void set_large_convolution_flops(double flops) { least_flops = flops; }

template <typename T>
LargeConvolution<T>::LargeConvolution(const Conv2dShape& s, Precision precision, Result result)
    : s_(s), result_(result) {
  const Window& window = s.window;
  const Sizes x = {s.N, s.C, window.H, window.W}, y = {s.N, s.O, window.OH, window.OW};
  const Sizes w = {s.O, s.C / s.groups, window.KH, window.KW};
  const double flops = 2.0 * static_cast<double>(count_of(y)) * static_cast<double>(features_of(w));
  const auto values = static_cast<double>(count_of(x) + count_of(y));
  if (flops <= 0 || flops < least_flops * (1 + values / kValuesMoved)) return;
  // The library has bfloat16 for images that are bfloat16 themselves, the result too.
  if (sizeof(T) == 4 && precision == Precision::bf16) return;
  if (!dnn::context()) return;
  a_ = result == Result::dw ? y : w;
  b_ = result == Result::dx ? y : x;
  out_ = result == Result::y ? y : result == Result::dx ? x : w;
  b_bytes_ = bytes_of<T>(std::max(count_of(b_), result == Result::dx ? count_of(out_) : 0));
  other_bytes_ = bytes_of<T>(count_of(result == Result::dw ? a_ : out_));
  weight_bytes_ = bytes_of<T>(count_of(w));
  exact_ = sizeof(T) == 4 && precision == Precision::fp32;
  most_workspace_ = kMostWorkspace + kMostOfImages * bytes_of<T>(count_of(x) + count_of(y));
  made_ = make();
  found_ = made_.plan != nullptr;
  most_workspace_ = made_.workspace;
}

// The first of the configurations that fit which the library can make a plan of.
template <typename T>
typename LargeConvolution<T>::Made LargeConvolution<T>::make() const {
  Made made;
  dnn::Context* const context = dnn::context();
  made.session = session();
  if (!context) return made;
  const auto keep = [&made](dnn::Owned part) {
    made.parts.push_back(std::move(part));
    return made.parts.back().get();
  };
  const Names& names = result_ == Result::y    ? kForward
                       : result_ == Result::dx ? kBackwardInput
                                               : kBackwardWeight;
  Descriptor* const operation = keep(Builder(names.kind)
                                         .set(names.convolution, keep(make_geometry<T>(s_.window)))
                                         .set(names.a, keep(make_tensor<T>(kA, a_)))
                                         .set(names.b, keep(make_tensor<T>(kB, b_)))
                                         .set(names.result, keep(make_tensor<T>(kResult, out_)))
                                         .set(names.alpha, T(1))
                                         .set(names.beta, T(0))
                                         .finish());
  Descriptor* const graph = keep(Builder(Kind::graph)
                                     .set(Attribute::graph_context, context)
                                     .set(Attribute::graph_operations, operation)
                                     .finish());
  if (!graph) return made;
  for (const dnn::Heuristics mode : {dnn::Heuristics::ranked, dnn::Heuristics::fallback}) {
    for (dnn::Owned& configuration : find_configurations(graph, mode)) {
      if (!fits(configuration.get())) continue;
      dnn::Owned plan = Builder(Kind::plan)
                            .set(Attribute::plan_context, context)
                            .set(Attribute::plan_configuration, configuration.get())
                            .finish();
      if (!plan || workspace_of(plan.get()) > most_workspace_) continue;
      made.workspace = workspace_of(plan.get());
      keep(std::move(configuration));
      made.plan = keep(std::move(plan));
      return made;
    }
  }
  return made;
}

// Whether an engine's sums are plain ones, with the same bits in every run. It may do nothing to
// numbers that is not known here.
template <typename T>
bool LargeConvolution<T>::fits(Descriptor* configuration) const {
  const dnn::Functions& f = *dnn::functions();
  const dnn::Owned engine = dnn::create(Kind::engine);
  Descriptor* to = engine.get();
  std::array<Note, 32> notes{};
  std::int64_t engines = 0, count = 0;
  if (!engine ||
      f.BackendGetAttribute(configuration, Attribute::configuration_engine, dnn::Type::descriptor,
                            1, &engines, &to) != dnn::kSuccess ||
      f.BackendGetAttribute(to, Attribute::engine_notes, dnn::Type::note,
                            static_cast<std::int64_t>(notes.size()), &count,
                            notes.data()) != dnn::kSuccess ||
      count > static_cast<std::int64_t>(notes.size()))
    return false;
  return std::all_of(notes.begin(), notes.begin() + count, [this](Note note) {
    return note == Note::nan_propagates || (note == Note::tensor_cores && !exact_);
  });
}

// A device that was lost took the plan with it: it is made anew, for the memory that there is.
template <typename T>
Descriptor* LargeConvolution<T>::plan() const {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (found_ && made_.session != session()) made_ = make();
  return made_.plan;
}

// For b as an image of the library's, for the other image, for the weights or their gradient where
// the caller's will not do, and for the library.
template <typename T>
std::int64_t LargeConvolution<T>::workspace() const {
  if (!found_) return 0;
  return static_cast<std::int64_t>(kWorkspaceAlignment) + b_bytes_ + other_bytes_ + weight_bytes_ +
         aligned(most_workspace_);
}

template <typename T>
bool LargeConvolution<T>::run(const T* a, const T* b, bool add, T* result, char* workspace,
                              cudaStream_t stream) const {
  Descriptor* const plan = found_ ? this->plan() : nullptr;
  if (!plan) return false;
  workspace +=
      (kWorkspaceAlignment - reinterpret_cast<std::uintptr_t>(workspace)) % kWorkspaceAlignment;
  T* const b_image = reinterpret_cast<T*>(workspace);
  T* const other = reinterpret_cast<T*>(workspace + b_bytes_);
  T* const weights = reinterpret_cast<T*>(workspace + b_bytes_ + other_bytes_);
  char* const own = workspace + b_bytes_ + other_bytes_ + weight_bytes_;
  transpose(features_of(b_), s_.N, b, b_image, stream);
  if (result_ == Result::dw) {
    transpose(features_of(a_), s_.N, a, other, stream);
    T* const dw = add || !begins_aligned(result) ? weights : result;
    if (!execute(plan, other, b_image, dw, own, stream)) return false;
    if (dw != result) combine(1, count_of(out_), count_of(out_), dw, add, result, stream);
    return true;
  }
  if (!begins_aligned(a)) combine(1, count_of(a_), count_of(a_), a, false, weights, stream);
  if (!execute(plan, begins_aligned(a) ? a : weights, b_image, other, own, stream)) return false;
  T* const sums = add ? b_image : result;  // nobody needs b any more
  transpose(s_.N, features_of(out_), other, sums, stream);
  if (add) accumulate(count_of(out_), sums, result, stream);
  return true;
}

template <typename T>
bool LargeConvolution<T>::execute(Descriptor* plan, const T* a, const T* b, T* result,
                                  char* workspace, cudaStream_t stream) const {
  const dnn::Owned pack =
      Builder(Kind::pack)
          .set(Attribute::pack_numbers, std::array{kA, kB, kResult})
          .set(Attribute::pack_pointers,
               std::array<void*, 3>{const_cast<T*>(a), const_cast<T*>(b), result})
          .set(Attribute::pack_workspace, static_cast<void*>(workspace))
          .finish();
  const int status = pack ? dnn::execute(plan, pack.get(), stream) : dnn::kNotSupported;
  if (dnn::not_supported(status)) return false;
  if (status != dnn::kSuccess)
    throw DeviceError(message("a convolution by cuDNN failed with its status ", status));
  return true;
}

template class LargeConvolution<float>;
template class LargeConvolution<double>;

}  // namespace pynn::cuda
