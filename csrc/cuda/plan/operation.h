// An operator with fixed shapes, on the device: kernels/layout.h says how its arrays lie.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/step_state.h"
#include "kernels/window.h"

namespace pynn::cuda {

// What one call works on: pointers to the device, by place among the operator's inputs. Everything
// is launched on `stream`; nothing waits.
template <typename T>
struct Call {
  std::vector<const T*> inputs;  // null: absent
  T* y = nullptr;                // backward reads it, where the operation says so
  T* dy = nullptr;               // backward may change it: nobody reads it afterwards
  std::vector<T*> gradients;     // of the inputs; null: not wanted
  std::vector<char> add;         // whether a gradient is added to what is there
  // Whether a gradient is left in the shards that Operation::shards says, one behind the other.
  std::vector<char> in_shards;
  // What the first input is the result of: its gradient is multiplied by the derivative; none where
  // whoever computed the input does it.
  Activation input_activation;
  char* saved = nullptr;  // forward writes it, backward reads it
  char* scratch = nullptr;
  const StepState* state = nullptr;  // what random operators draw from
  cudaStream_t stream = nullptr;
};

template <typename T>
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void forward(const Call<T>& call) const = 0;
  virtual void backward(const Call<T>& call) const = 0;
  // Running statistics, when a step has succeeded. `forward`'s call.
  virtual void commit(const Call<T>&) const {}
  virtual bool commits() const { return false; }

  virtual std::int64_t saved_bytes() const { return 0; }
  virtual std::int64_t forward_scratch() const { return 0; }
  virtual std::int64_t backward_scratch() const { return 0; }
  // What backward reads.
  virtual bool reads_input(std::size_t) const { return false; }
  virtual bool reads_output() const { return false; }
  // How many parts the gradient of this input is the sum of.
  virtual std::int64_t shards(std::size_t) const { return 1; }
  // Whether y is x under another shape: nothing is launched, and they share their memory.
  virtual bool is_view() const { return false; }
  // Whether backward works where dx is dy.
  virtual bool backward_in_place() const { return false; }

  // Fusion. An operation that is an activation, or a pool of 2 x 2 tiles, and nothing else:
  virtual const Activation* as_activation() const { return nullptr; }
  virtual const Window* as_pool() const { return nullptr; }
  // becomes part of the one before it, where that can be: asked for once, activation first.
  virtual bool absorb(const Activation&) { return false; }
  virtual bool absorb(const Window&) { return false; }
  // The activation that y comes out of and whose derivative `backward` does, unless it is told that
  // the next operation's input_activation has done it.
  virtual Activation own_activation() const { return {}; }
  virtual void leave_derivative() {}
  virtual bool takes_input_activation() const { return false; }

  virtual std::string what() const = 0;  // "conv2d 5 x 5, 1 -> 20 channels + relu"
  virtual std::int64_t flops() const { return 0; }
  virtual std::int64_t backward_flops() const { return 0; }
};

const char* name_of(const Activation& activation);
// What a plan says of an operation's results, those that a library computes being true:
// " (cuBLASLt: y, dx)", or nothing.
std::string computed_by(const char* library,
                        std::initializer_list<std::pair<const char*, bool>> results);
// Whether the result alone tells the derivative: then an operation can end with the activation.
bool derives_from_result(const Activation& activation);

// Working memory is cut into parts that begin at multiples of 256 bytes.
constexpr std::int64_t aligned(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }

template <typename T>
constexpr std::int64_t bytes_of(std::int64_t count) {
  return aligned(count * static_cast<std::int64_t>(sizeof(T)));
}

}  // namespace pynn::cuda
