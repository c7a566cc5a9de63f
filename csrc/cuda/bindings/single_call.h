// An operator on arrays of the host, by the names and arguments of pynn._core: each call copies to
// the device and back. Graphs run as plans (bind_plan.cpp); this is for single calls.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "cuda/plan/operations.h"
#include "cuda/plan/transfer.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

// An operand of a call: an array, or, where backward does not read it, its shape alone.
struct Operand {
  Operand() = default;
  Operand(const py::array& a, bool lies_raw = false)  // NOLINT: an array is an operand
      : array(&a), shape(shape_of(a)), raw(lies_raw), present(true) {}
  Operand(const std::optional<py::array>& a, bool lies_raw) {
    if (a) *this = Operand(*a, lies_raw);
  }
  static Operand unread(Shape shape, bool lies_raw = false) {
    Operand operand;
    operand.shape = std::move(shape);
    operand.raw = lies_raw;
    operand.present = true;
    return operand;
  }

  const py::array* array = nullptr;
  Shape shape;
  bool raw = false, present = false;
};

// Memory of one call.
template <typename T>
class Bench {
 public:
  char* bytes(std::int64_t size);
  T* room(std::int64_t count) { return reinterpret_cast<T*>(bytes(bytes_of<T>(count))); }
  T* put(const py::array& array, bool raw);
  T* put(const Operand& operand);
  py::array get(const T* from, const Shape& shape, bool raw);

 private:
  std::vector<DeviceMemory> memory_;
  Transfer<T> transfer_;
};

// y, by an operation on these operands.
template <typename T>
T* run_forward(Bench<T>& bench, const Operation<T>& operation, const std::vector<Operand>& operands,
               std::int64_t count, Call<T>& c);

// `make(T{})` gives the operation.
template <typename Make>
py::array forward(const std::vector<Operand>& operands, const Shape& y, bool raw,
                  const Make& make) {
  return by_dtype(*operands[0].array, [&](auto zero) {
    using T = decltype(zero);
    const OperationPointer<T> operation = make(zero);
    Bench<T> bench;
    Call<T> c;
    return bench.get(run_forward(bench, *operation, operands, element_count(y), c), y, raw);
  });
}

using Gradients = std::vector<std::optional<py::array>>;

// The gradients of operands, given dy; y and what forward saved where backward reads them.
template <typename T>
Gradients run_backward(const Operation<T>& operation, const Operand& dy,
                       const std::vector<Operand>& operands, const std::vector<bool>& needs,
                       const py::array* y, const std::vector<const py::array*>& saved);

template <typename Make>
Gradients backward(const Operand& dy, const std::vector<Operand>& operands,
                   const std::vector<bool>& needs, const py::array* y, const Make& make,
                   const std::vector<const py::array*>& saved = {}) {
  return by_dtype(*dy.array, [&](auto zero) {
    const OperationPointer<decltype(zero)> operation = make(zero);
    return run_backward(*operation, dy, operands, needs, y, saved);
  });
}

// As Python sees a gradient: None where it was not wanted.
py::object object_of(const std::optional<py::array>& array);

}  // namespace pynn::cuda
