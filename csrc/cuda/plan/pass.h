// One pass of a plan: its memory, and what it reads that is not its own.
#pragma once

#include <memory>
#include <vector>

#include "cuda/plan/plan.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

template <typename T>
class Pass {
 public:
  explicit Pass(const Plan<T>& plan);

  const Plan<T>& plan() const { return plan_; }
  // Where a stored value lies, from now on; whoever recorded launches must do it again where this
  // says that it has moved.
  bool set_stored(int value, const T* data);
  // What random operators draw from, on the device. Null for the pass's own.
  void use_state(StepState* state) { state_ = state; }
  StepState* own_state() const { return reinterpret_cast<StepState*>(memory_.data()); }

  // Of values (features, N) and stored ones (row-major).
  T* data(int value) const;
  T* gradient(int value) const;
  const char* saved(std::size_t node) const;

  // Launch from `node` on, up to the first foreign node, which is returned, or the number of nodes.
  int forward(int node, cudaStream_t stream) const;
  // Backward: the first foreign node that is met, or -1.
  int backward(int node, cudaStream_t stream) const;
  // Running statistics.
  void commit(cudaStream_t stream) const;

  bool lost() const { return memory_.lost(); }
  std::int64_t bytes() const { return memory_.bytes(); }

 private:
  Call<T> call(std::size_t node, cudaStream_t stream) const;
  char* buffer(int number) const {
    return number < 0 ? nullptr : arena_ + plan_.arena().offset(number);
  }

  const Plan<T>& plan_;
  DeviceMemory memory_;
  char* arena_;
  std::vector<const T*> stored_;  // by value
  StepState* state_;
};

}  // namespace pynn::cuda
