// Whole training steps on the device: input, forward, loss, backward, update, recorded once and
// launched as one; or many steps on a data set that lies there.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cuda/kernels/optimizer.h"
#include "cuda/plan/operations.h"
#include "cuda/plan/pass.h"
#include "cuda/runtime/graph.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

// Softmax cross-entropy of labels (N,), or the squared error of a target in the output's shape.
struct CrossEntropyLoss {
  double smoothing = 0;
  std::optional<std::int64_t> ignored_label;
  bool mean = true;
  bool operator==(const CrossEntropyLoss& other) const {
    return smoothing == other.smoothing && ignored_label == other.ignored_label &&
           mean == other.mean;
  }
};
struct SquaredErrorLoss {
  bool mean = true;
  bool operator==(const SquaredErrorLoss& other) const { return mean == other.mean; }
};
using Loss = std::variant<CrossEntropyLoss, SquaredErrorLoss>;

template <typename T>
using Settings = std::variant<SgdSettings<T>, AdamSettings<T>, RmspropSettings<T>>;

// A data set on the device, rows first. Inputs are uint8, float or double; targets labels (int64)
// or values of T.
struct DataSet {
  enum class Kind { uint8, float32, float64 };
  const void* x = nullptr;
  Kind kind = Kind::uint8;
  const void* y = nullptr;
  double scale = 1;
  bool operator==(const DataSet& other) const {
    return x == other.x && kind == other.kind && y == other.y && scale == other.scale;
  }
};

template <typename T>
class Step {
 public:
  // The pass's plan has one input, no foreign nodes, and a backward pass.
  explicit Step(Pass<T>& pass);

  // A parameter that is updated, and where its state lies; null for what the rule does without.
  void add_update(int value, int group, T* p, T* state0, T* state1);
  // Limits of gradients; 0: none.
  void set_limits(double clip_value, double clip_norm);
  void set_loss(const Loss& loss);
  // What was recorded is not right any more: something else lies elsewhere.
  void forget();

  struct Result {
    std::vector<double> losses;  // of the steps made; where one failed, its loss as well
    bool failed = false;
    double norm = 0;  // of the gradients of the last step, where they are limited by it
  };
  // Where the rows (N, features) of a batch, and its labels or target, are to be written.
  T* host_rows();
  std::int64_t* host_labels();
  T* host_target();
  // One step on what was written there. `settings` of each group.
  Result run(std::uint64_t seed, std::uint32_t step, const std::vector<Settings<T>>& settings);

  // One step after another: batch i has the rows order[i N ... (i + 1) N); settings of step i and
  // group g are settings[i groups + g].
  Result run_epoch(const DataSet& data, const std::int64_t* order, std::int64_t steps,
                   std::uint64_t seed, std::uint32_t step,
                   const std::vector<Settings<T>>& settings);

  // Why steps are not recorded any more; empty where they are.
  const std::string& not_recorded() const { return not_recorded_; }

  // In pieces, for a loss that the host computes: forward; then, with the output's gradient
  // written, backward and updates.
  void forward(std::uint64_t seed, std::uint32_t step);
  Result backward(const std::vector<Settings<T>>& settings);

 private:
  // The part of a step that the host writes, in page-locked memory and on the device alike.
  struct Input {
    std::int64_t settings = 0, target = 0, rows = 0, bytes = 0;  // offsets
  };
  void prepare();
  void write_state(std::uint64_t seed, std::uint32_t step, char* to) const;
  void write_settings(const std::vector<Settings<T>>& settings, char* to) const;
  void launch_input(cudaStream_t stream) const;
  void launch_gather(const DataSet& data, cudaStream_t stream) const;
  void launch_loss(cudaStream_t stream) const;
  void launch_update(bool advances, cudaStream_t stream) const;
  void launch_step(cudaStream_t stream) const;
  void launch_result(cudaStream_t stream) const;
  bool is_recorded(const std::function<void(cudaStream_t)>& work, Graph& graph);
  void launch_or_record(const std::function<void(cudaStream_t)>& work, Graph& graph, bool& warm);
  Result result(const double* losses, std::int64_t steps);

  Samples input_samples() const;
  Samples output_samples() const;
  bool has_labels() const { return std::holds_alternative<CrossEntropyLoss>(loss_); }
  StepState* state() const { return reinterpret_cast<StepState*>(input_.data()); }

  Pass<T>& pass_;
  std::vector<ParameterUpdate<T>> updates_;
  std::int32_t groups_ = 1;
  std::size_t rule_ = 0;  // which of Settings<T>
  double clip_value_ = 0, clip_norm_ = 0;
  Loss loss_;
  bool ready_ = false;

  Input at_;
  PinnedMemory host_;
  DeviceMemory input_;   // a header, settings, labels or target rows, rows of the input
  DeviceMemory target_;  // labels, or the target (features, N)
  DeviceMemory losses_;  // double, of each step
  DeviceMemory loss_workspace_;
  DeviceMemory tables_;    // of the update: parameters, pieces; the workspace of the norm
  DeviceMemory settings_;  // of many steps
  DeviceMemory order_;
  PinnedMemory results_;
  std::int64_t pieces_ = 0, pieces_at_ = 0, norm_workspace_at_ = 0;
  const char* settings_at_ = nullptr;  // those that launches read
  double* losses_at_ = nullptr;        // where they write

  DataSet data_;
  Graph single_, gathered_, gathered_many_;
  bool warm_single_ = false, warm_gathered_ = false;
  std::string not_recorded_;
};

}  // namespace pynn::cuda
