#include "plan/array_linear_stage.h"

#include <algorithm>
#include <atomic>

#include "runtime/scratch.h"
#include "threaded/few_rows.h"

namespace pynn {
namespace {

template <typename T>
class ArrayLinearStage final : public Stage<T> {
 public:
  ArrayLinearStage(Builder<T>& builder, const LinearNode& node, const LayerGradients& gradients)
      : layer_(builder, node, gradients),
        shape_{layer_.x.samples, layer_.x.features(), layer_.y.features()},
        x_(builder.array(node.x)) {
    if (!builder.backward) return;
    if (layer_.needs_dw) builder.keep(node.x);
    if (layer_.adds_dx()) part_ = builder.backward_scratch(shape_.rows * shape_.inputs);
    if (layer_.needs_db) bias_sums_ = builder.backward_scratch(shape_.outputs);
  }

  void forward(const Run<T>& run, BlockRange) const override {
    // The weights that were read last, and are still in the cache, come first in what follows: the
    // update, which walks forward, or the next pass.
    const bool backwards = layer_.needs_dw || backwards_.load(std::memory_order_relaxed);
    backwards_.store(!backwards, std::memory_order_relaxed);
    threaded::linear(shape_, x_.at(run), layer_.weights(run), layer_.bias(run), layer_.relu,
                     backwards, run.at(layer_.y_data));
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const T* const dy = layer_.pass_relu(run, blocks);
    if (!layer_.needs_dx()) return;
    T* const dx = run.at(layer_.dx_data);
    const bool add = layer_.adds_dx();
    T* const to = add ? run.at(part_) : dx;
    const T* const mask = layer_.masks_dx ? x_.at(run) : nullptr;
    threaded::linear_backward_input<T>(shape_, dy, layer_.weights(run), mask, to);
    for (std::int64_t i = 0; i < shape_.rows * shape_.inputs && add; ++i) dx[i] += to[i];
  }

  void finish_backward(const Run<T>& run) const override {
    const T* const dy = run.at(layer_.dy_data);
    if (layer_.needs_db) bias_gradients(run, dy);
    if (layer_.needs_dw) weight_gradients(run, dy);
  }

  StageReport report() const override {
    const std::int64_t product = 2 * shape_.rows * shape_.inputs * shape_.outputs;
    return {message("linear ", shape_.inputs, " -> ", shape_.outputs, layer_.relu ? " + relu" : ""),
            product, (layer_.needs_dw ? product : 0) + (layer_.needs_dx() ? product : 0)};
  }

 private:
  void bias_gradients(const Run<T>& run, const T* dy) const {
    const ParameterGradient<T> db = layer_.bias_gradient(run);
    T* const sums = run.at(bias_sums_);
    isa_table<T>().bias.backward(shape_.rows, shape_.outputs, 0, shape_.outputs, dy, sums);
    db.write(0, shape_.outputs, sums);
  }

  void weight_gradients(const Run<T>& run, const T* dy) const {
    const ParameterGradient<T> dw = layer_.weight_gradient(run);
    const T* const x = x_.at(run);
    if (!dw.updates() || dw.update().step()) {
      const std::optional<GradientStep<T>> step =
          dw.updates() ? dw.update().step() : std::optional<GradientStep<T>>();
      T* const to = step ? dw.update().p : dw.memory();
      return threaded::linear_backward_weight(shape_, dy, x, dw.add(), step ? &*step : nullptr, to);
    }
    // A few rows of the gradient, which update their weights while they are in the cache.
    threaded::parallel_columns(shape_, shape_.outputs, [&](std::int64_t begin, std::int64_t end) {
      constexpr std::int64_t kRows = 4;
      T* const part = scratch<T>(kRows * shape_.inputs);
      for (std::int64_t o = begin; o < end; o += kRows) {
        const std::int64_t rows = std::min(kRows, end - o);
        isa_table<T>().few_rows.backward_weight(shape_, 0, rows, dy + o, x, false, nullptr, part);
        dw.done(o * shape_.inputs, rows * shape_.inputs, part);
      }
    });
  }

  const WeightedLayer layer_;
  const FewRowsShape shape_;
  const InputArray<T> x_;
  int part_ = -1, bias_sums_ = -1;              // of dx, where it is added; of b
  mutable std::atomic<bool> backwards_{false};  // every other pass forward
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_array_linear_stage(Builder<T>& builder, const LinearNode& node,
                                                  const LayerGradients& gradients) {
  return std::make_unique<ArrayLinearStage<T>>(builder, node, gradients);
}
template std::unique_ptr<Stage<float>> make_array_linear_stage(Builder<float>&, const LinearNode&,
                                                               const LayerGradients&);
template std::unique_ptr<Stage<double>> make_array_linear_stage(Builder<double>&, const LinearNode&,
                                                                const LayerGradients&);

}  // namespace pynn
