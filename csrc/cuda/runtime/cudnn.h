// What pynn calls of NVIDIA's cuDNN, which is found at run time and without which pynn does: its
// interface of graphs, in which everything is a descriptor that is given attributes and then
// finalised. Its header is not needed to build: numbers are those of cudnn_graph.h of cuDNN 9,
// under names of pynn's; tests/cuda/libraries/check_cudnn.cpp compares them.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace pynn::cuda::dnn {

constexpr int kSuccess = 0;
// Statuses from here on say what the library does not do, up to the next thousand.
constexpr int kNotSupported = 3000;
constexpr bool not_supported(int status) { return status / 1000 == kNotSupported / 1000; }

// cudnnBackendDescriptorType_t
enum class Kind : int {
  convolution = 1,  // its geometry
  engine = 2,
  configuration = 3,  // of an engine
  heuristics = 4,
  plan = 5,
  forward = 10,  // convolutions of a graph
  backward_weight = 11,
  backward_input = 12,
  graph = 15,
  pack = 16,  // where a plan's tensors lie
  tensor = 17
};
// cudnnBackendAttributeName_t
enum class Attribute : int {
  convolution_sums = 100,  // DataType
  convolution_mode = 101,
  convolution_dilations = 102,  // int64, rows and columns; likewise
  convolution_strides = 103,
  convolution_after = 104,  // padding, below and right
  convolution_before = 105,
  convolution_dimensions = 106,  // int64, 2 of an image
  heuristics_mode = 200,
  heuristics_graph = 201,
  heuristics_results = 202,  // configurations, the best first
  configuration_engine = 300,
  plan_context = 400,
  plan_configuration = 401,
  plan_workspace = 402,  // int64, bytes
  forward_alpha = 700,   // float or double: y = alpha conv(x, w) + beta y
  forward_beta = 701,
  forward_convolution = 702,
  forward_w = 703,
  forward_x = 704,
  forward_y = 705,
  backward_input_alpha = 706,
  backward_input_beta = 707,
  backward_input_convolution = 708,
  backward_input_w = 709,
  backward_input_dx = 710,
  backward_input_dy = 711,
  backward_weight_alpha = 712,
  backward_weight_beta = 713,
  backward_weight_convolution = 714,
  backward_weight_dw = 715,
  backward_weight_x = 716,
  backward_weight_dy = 717,
  graph_context = 800,
  graph_operations = 801,
  tensor_alignment = 900,  // int64, bytes
  tensor_type = 901,       // DataType
  tensor_sizes = 902,      // int64
  tensor_strides = 903,    // int64, elements
  tensor_number = 906,     // int64, by which a pack knows it
  pack_numbers = 1000,
  pack_pointers = 1001,
  pack_workspace = 1003,
  engine_notes = 1303
};
// cudnnBackendAttributeType_t: what an attribute is told in.
enum class Type : int {
  context = 0,
  data_type = 1,
  int64 = 3,
  float32 = 4,
  float64 = 5,
  pointer = 6,
  mode = 7,
  heuristics = 8,
  note = 11,
  descriptor = 15
};
// cudnnDataType_t
enum class DataType : int { float32 = 0, float64 = 1 };
// cudnnConvolutionMode_t
enum class Mode : int { cross_correlation = 1 };
// cudnnBackendHeurMode_t
enum class Heuristics : int { fallback = 2, ranked = 3 };
// cudnnBackendNumericalNote_t: what an engine does to numbers.
enum class Note : int {
  tensor_cores = 0,
  inputs_rounded = 1,
  sums_rounded = 2,
  fourier = 3,
  not_deterministic = 4,
  winograd = 5,
  winograd_4x4 = 6,
  winograd_6x6 = 7,
  winograd_13x13 = 8,
  nan_propagates = 9
};

struct Context;     // cudnnHandle_t points to it
struct Descriptor;  // cudnnBackendDescriptor_t, which is void*, points to it

// The functions that are called, without the "cudnn" of their names. All give a status.
struct Functions {
  int (*Create)(Context**);
  int (*SetStream)(Context*, cudaStream_t);
  int (*BackendCreateDescriptor)(Kind, Descriptor**);
  int (*BackendDestroyDescriptor)(Descriptor*);
  int (*BackendSetAttribute)(Descriptor*, Attribute, Type, std::int64_t count, const void*);
  int (*BackendGetAttribute)(Descriptor*, Attribute, Type, std::int64_t wanted, std::int64_t* count,
                             void*);
  int (*BackendFinalize)(Descriptor*);
  int (*BackendExecute)(Context*, Descriptor* plan, Descriptor* pack);
};

// Null where the library is missing, or lacks one of them.
const Functions* functions();
// Of the session (session.h), made when it is first asked for, which must not be while a graph is
// recorded. Null where it cannot be made.
Context* context();
// Runs a plan. The stream is an attribute of the context: threads wait for one another.
int execute(Descriptor* plan, Descriptor* pack, cudaStream_t stream);

// Of a session that has ended, descriptors went with the device.
struct Destroy {
  std::uint64_t session = 0;
  void operator()(Descriptor* descriptor) const;
};
using Owned = std::unique_ptr<Descriptor, Destroy>;
Owned create(Kind kind);  // null where it is refused

template <typename Value>
constexpr Type type_of() {
  if (std::is_same_v<Value, Context*>) return Type::context;
  if (std::is_same_v<Value, DataType>) return Type::data_type;
  if (std::is_same_v<Value, std::int64_t>) return Type::int64;
  if (std::is_same_v<Value, float>) return Type::float32;
  if (std::is_same_v<Value, double>) return Type::float64;
  if (std::is_same_v<Value, void*>) return Type::pointer;
  if (std::is_same_v<Value, Mode>) return Type::mode;
  if (std::is_same_v<Value, Heuristics>) return Type::heuristics;
  if (std::is_same_v<Value, Note>) return Type::note;
  return Type::descriptor;
}

// A descriptor that is being given its attributes.
class Builder {
 public:
  explicit Builder(Kind kind) : made_(create(kind)) {}
  template <typename Value>
  Builder& set(Attribute attribute, const Value& value) {
    return set(attribute, std::array<Value, 1>{value});
  }
  template <typename Value, std::size_t count>
  Builder& set(Attribute attribute, const std::array<Value, count>& values) {
    if constexpr (std::is_same_v<Value, Descriptor*>)  // was refused itself
      for (Descriptor* const part : values)
        if (!part) made_ = nullptr;
    if (made_ && functions()->BackendSetAttribute(made_.get(), attribute, type_of<Value>(),
                                                  static_cast<std::int64_t>(count),
                                                  values.data()) != kSuccess)
      made_ = nullptr;
    return *this;
  }
  // Finalised; null where something was refused.
  Owned finish() {
    if (made_ && functions()->BackendFinalize(made_.get()) != kSuccess) made_ = nullptr;
    return std::move(made_);
  }

 private:
  Owned made_;
};

}  // namespace pynn::cuda::dnn
