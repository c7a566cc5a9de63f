// An operator of a library, as the rest of pynn calls it: what crosses the border of abi.h is
// checked here.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "pynn/abi.h"
#include "runtime/errors.h"

namespace pynn {

constexpr int kMaxOperatorInputs = 16;

// A library cannot be loaded.
struct LibraryError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
// An operator failed while it ran, or broke a promise.
struct OperatorError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a library says, as UTF-8, which is all that Python takes: other bytes become '?'. Of null,
// nothing.
std::string readable(const char* text);

// The values of an operator's attributes, with the memory that they point into.
class AttributeValues {
 public:
  AttributeValues() = default;
  AttributeValues(const AttributeValues&) = delete;
  AttributeValues& operator=(const AttributeValues&) = delete;
  AttributeValues(AttributeValues&&) = default;
  AttributeValues& operator=(AttributeValues&&) = default;

  void add(const pynn_value& value) { values_.push_back(value); }
  void add_text(std::string text);
  void add_integers(std::vector<std::int64_t> integers);
  const pynn_value* data() const { return values_.data(); }

 private:
  std::vector<pynn_value> values_;
  std::deque<std::string> texts_;
  std::deque<std::vector<std::int64_t>> lists_;
};

// The shape of a dense array and its strides, or an array that is absent.
struct DenseShape {
  DenseShape() = default;
  explicit DenseShape(Shape shape);
  bool present = false;
  Shape sizes, strides;
  std::int64_t count() const { return element_count(sizes); }
  // Points to this.
  pynn_tensor tensor(void* data, std::int32_t dtype) const;
};

// Shapes of a call.
struct OperatorShapes {
  std::vector<DenseShape> inputs;
  DenseShape y;
};

// Bytes that a call needs beside its arrays.
struct OperatorMemory {
  std::int64_t saved = 0, forward = 0, backward = 0;
};

// The arrays of a call. Null where an input is absent, is not read or a gradient is not wanted.
struct OperatorArrays {
  std::array<const void*, kMaxOperatorInputs> inputs{};
  std::array<void*, kMaxOperatorInputs> gradients{};
  void* y = nullptr;
  const void* dy = nullptr;
  void* saved = nullptr;
  void* workspace = nullptr;
  pynn_random random{};
};

class LibraryOperator {
 public:
  // Takes over the table, which stays where it is; throws LibraryError where it is not one.
  // `library` is the file's name.
  LibraryOperator(const pynn_operator* table, std::string library);

  const std::string& name() const { return name_; }
  const std::string& library() const { return library_; }
  std::string doc() const { return readable(table_.doc); }
  const std::vector<pynn_input>& inputs() const { return inputs_; }
  const std::vector<pynn_attribute>& attributes() const { return attributes_; }
  const std::vector<pynn_sample>& samples() const { return samples_; }
  bool has_backward() const { return table_.backward != nullptr; }
  bool has(std::uint32_t flag) const { return (table_.flags & flag) != 0; }
  bool per_sample() const { return has(PYNN_PER_SAMPLE | PYNN_POINTWISE); }
  bool reads_inputs() const { return has(PYNN_BACKWARD_READS_INPUTS); }
  bool reads_output() const { return has(PYNN_BACKWARD_READS_OUTPUT); }
  bool is_parameter(std::size_t input) const {
    return (inputs_[input].flags & PYNN_PARAMETER) != 0;
  }
  bool has_gradient(std::size_t input) const {
    return (inputs_[input].flags & PYNN_NO_GRADIENT) == 0;
  }

  // The shapes of a call on inputs of these shapes; throws where they or the attributes do not fit.
  OperatorShapes shapes(const std::vector<std::optional<Shape>>& inputs,
                        const AttributeValues& attributes) const;
  OperatorMemory memory(const OperatorShapes& shapes, const AttributeValues& attributes,
                        std::int32_t dtype) const;
  std::optional<std::int64_t> flops(const OperatorShapes& shapes,
                                    const AttributeValues& attributes) const;

  // On whole arrays. Pointwise operators run on several threads; others start threads themselves.
  void forward(const OperatorShapes& shapes, const AttributeValues& attributes, std::int32_t dtype,
               const OperatorArrays& arrays) const;
  void backward(const OperatorShapes& shapes, const AttributeValues& attributes, std::int32_t dtype,
                const OperatorArrays& arrays) const;
  // Of a pointwise operator: `count` elements of each array, on the calling thread.
  void forward_piece(std::int64_t count, const AttributeValues& attributes, std::int32_t dtype,
                     const OperatorArrays& arrays) const;
  void backward_piece(std::int64_t count, const AttributeValues& attributes, std::int32_t dtype,
                      const OperatorArrays& arrays) const;

 private:
  struct Frame;

  template <typename Function>
  void call(const char* what, const pynn_call& given, const Function& function) const;
  void hide_unread(Frame& frame) const;
  void check_inputs(const std::vector<std::optional<Shape>>& inputs) const;
  template <typename Function>
  void in_pieces(std::int64_t count, std::int32_t dtype, const OperatorArrays& arrays,
                 const Function& function) const;

  const pynn_operator* const original_;
  pynn_operator table_{};  // what there is of the original; the rest is null
  std::string library_, name_;
  std::vector<pynn_input> inputs_;
  std::vector<pynn_attribute> attributes_;
  std::vector<pynn_sample> samples_;
};

// The operators of a library; throws LibraryError where it is none, or needs a newer pynn.
std::vector<LibraryOperator> read_library(const pynn_library* library, const std::string& name);

}  // namespace pynn
