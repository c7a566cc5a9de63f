// A stage of a plan: one operator, forward and backward, on values that lie in blocks of samples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "plan/arena.h"
#include "plan/layout.h"
#include "plan/update.h"
#include "plan/values.h"
#include "runtime/philox.h"
#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn {

// Blocks of samples; and where those of values that pass by lie: the first of them in this slot.
struct BlockRange {
  std::int64_t begin, end, slot;
  std::int64_t count() const { return end - begin; }
};

// What one pass works on. The pointers are the caller's and stay valid until the pass that uses
// them is over.
template <typename T>
struct Run {
  const Arena* arena = nullptr;
  char* memory = nullptr;
  std::vector<const T*> rows;      // of inputs, by value: (N, features), as the caller holds them
  std::vector<const T*> stored;    // by value
  std::vector<T*> gradients;       // of parameters, by value
  std::vector<char> accumulate;    // whether a parameter's gradient is added to what is there
  std::vector<Update<T>> updates;  // of parameters, by value
  std::uint64_t seed = 0;
  std::uint32_t step = 0, first_sample = 0;

  // Of a value: what its first block would have, so that block i lies i blocks behind.
  T* at(int buffer, BlockRange blocks) const {
    return reinterpret_cast<T*>(memory + arena->offset(buffer) +
                                arena->slot_bytes(buffer) * (blocks.slot - blocks.begin));
  }
  T* at(int buffer) const { return reinterpret_cast<T*>(memory + arena->offset(buffer)); }
};

// How a gradient is to be written: the first stage that has one overwrites.
enum class GradientMode { none, overwrite, add };

// A value that a stage on arrays reads: where the plan keeps it, or as the caller gave it.
template <typename T>
struct InputArray {
  int data = -1, rows = -1;
  const T* at(const Run<T>& run) const {
    return rows >= 0 ? run.rows[static_cast<std::size_t>(rows)] : run.at(data);
  }
};

template <typename T>
class Stage;

// What a stage may ask for while a plan is built. Times: segment i (nodes whose stages take turns
// at each block of samples) runs forward at time i and backward at time 2 segments - i; between
// them, at time `segments`, the output is read and its gradient written.
template <typename T>
struct Builder {
  std::vector<Value>& values;
  Arena& arena;
  int segment = 0, segments = 0;
  bool backward = false;               // whether this node has a backward pass
  bool winograd = false;               // as in the graph
  std::int64_t blocks = 0;             // that the stage walks
  bool is_folded = false;              // whether there is one more, which another stage walks
  const Stage<T>* unfolded = nullptr;  // in that stage, the one that walks the others

  Value& value(int number) { return values[static_cast<std::size_t>(number)]; }
  int backward_time() const { return 2 * segments - segment; }
  InputArray<T> array(int number) { return {value(number).data, value(number).rows}; }
  // Whether the stage that writes this gradient alone is to set it to 0 where relu was.
  bool masks(int number, GradientMode dx) {
    Value& x = value(number);
    x.masked = dx == GradientMode::overwrite && x.relu && x.gradients_read == 1 && !x.is_output;
    return x.masked;
  }
  // The data of a value are read in the backward pass of this node.
  void keep(int number) {
    if (backward && value(number).data >= 0) arena.extend(value(number).data, backward_time());
  }
  // Working memory of the forward pass, in elements.
  int forward_scratch(std::int64_t count) {
    return arena.add(count * static_cast<std::int64_t>(sizeof(T)), segment, segment);
  }
  // Likewise of the backward pass.
  int backward_scratch(std::int64_t count) {
    return arena.add(count * static_cast<std::int64_t>(sizeof(T)), backward_time(),
                     backward_time());
  }
};

// Where a part of a parameter's gradient goes: to memory, or through scratch memory into the
// update.
template <typename T>
class ParameterGradient {
 public:
  ParameterGradient(const Run<T>& run, int value, bool again)
      : update_(run.updates[static_cast<std::size_t>(value)]),
        memory_(run.gradients[static_cast<std::size_t>(value)]),
        add_(!updates() && (again || run.accumulate[static_cast<std::size_t>(value)])) {}

  bool updates() const { return update_.settings != nullptr; }
  bool add() const { return add_; }
  T* memory() const { return memory_; }
  const Update<T>& update() const { return update_; }
  // These elements are soon to be updated.
  void prefetch(std::int64_t first, std::int64_t count) const {
    if (updates()) update_.prefetch(first, count);
  }
  // The elements first ... first + count have been written to g.
  void done(std::int64_t first, std::int64_t count, const T* g) const {
    if (updates()) update_.apply(first, count, g);
  }
  // The elements first ... first + count are g, which may be their memory.
  void write(std::int64_t first, std::int64_t count, const T* g) const {
    if (updates()) return update_.apply(first, count, g);
    T* const to = memory_ + first;
    if (to == g) return;
    for (std::int64_t i = 0; i < count; ++i) to[i] = add_ ? to[i] + g[i] : g[i];
  }

 private:
  const Update<T>& update_;
  T* const memory_;
  const bool add_;
};

struct StageReport {
  std::string what;        // "conv2d 5 x 5, 1 -> 20 channels + relu"
  std::int64_t flops = 0;  // forward, the lanes that pad the batch included
  std::int64_t backward_flops = 0;
};

// How what remains of a stage's backward pass can be cut into parts that threads may do at once,
// beside those of other stages. One: it is too little to be cut. None: it shares its work itself.
struct FinishParts {
  std::int64_t count = 0;
  std::int64_t work = 0;  // of all of them, in floating-point operations, roughly
  bool in_place = false;  // neither they nor `backward` need working memory of the plan
};

template <typename T>
class Stage {
 public:
  virtual ~Stage() = default;
  // Only these blocks of samples.
  virtual void forward(const Run<T>& run, BlockRange blocks) const = 0;
  virtual void backward(const Run<T>& run, BlockRange blocks) const = 0;
  // What comes before the first block.
  virtual void begin_forward(const Run<T>&) const {}
  virtual void begin_backward(const Run<T>&) const {}
  // What remains when all blocks have been walked: gradients and updates of parameters.
  virtual void finish_backward(const Run<T>&) const {}
  // The same in parts, where they are more than one.
  virtual FinishParts finish_parts(const Run<T>&) const { return {}; }
  virtual void finish_part(const Run<T>&, std::int64_t) const {}
  virtual StageReport report() const = 0;
};

}  // namespace pynn
