#include "plan/array_linear_stage.h"

#include <algorithm>

#include "plan/rows.h"
#include "runtime/scratch.h"
#include "threaded/few_rows.h"

namespace pynn {
namespace {

template <typename T>
class ArrayLinearStage final : public Stage<T> {
 public:
  ArrayLinearStage(Builder<T>& builder, const LinearNode& node, GradientMode dx, bool dw_again,
                   bool db_again)
      : node_(node),
        shape_{builder.value(node.x).layout.samples, builder.value(node.x).layout.features(),
               builder.value(node.y).layout.features()},
        dy_layout_(builder.value(node.y).layout),
        x_(builder.array(node.x)),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx),
        dw_(builder.value(node.w).needed),
        db_(node.b >= 0 && builder.value(node.b).needed),
        dw_again_(dw_again),
        db_again_(db_again),
        masked_(builder.value(node.y).masked),
        mask_dx_(builder.masks(node.x, dx)) {
    if (!builder.backward) return;
    if (node.relu) builder.keep(node.y);
    if (mask_dx_ || dw_) builder.keep(node.x);
    if (dx == GradientMode::add) part_ = builder.backward_scratch(shape_.rows * shape_.inputs);
    if (db_) bias_sums_ = builder.backward_scratch(shape_.outputs);
  }

  void forward(const Run<T>& run, BlockRange) const override {
    const T* const b = node_.b < 0 ? nullptr : run.stored[static_cast<std::size_t>(node_.b)];
    threaded::linear(shape_, x_.at(run), weights(run), b, node_.relu, run.at(y_data_));
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    T* const dy = run.at(dy_data_);
    if (node_.relu && !masked_) {
      const T* const y = run.at(y_data_);
      parallel_rows<1>({&dy_layout_}, blocks, 1, [&](std::int64_t count, const auto& at) {
        isa_table<T>().relu.backward(count, dy + at[0], y + at[0], dy + at[0]);
      });
    }
    if (dx_mode_ == GradientMode::none) return;
    T* const dx = run.at(dx_data_);
    const bool add = dx_mode_ == GradientMode::add;
    T* const to = add ? run.at(part_) : dx;
    const T* const mask = mask_dx_ ? x_.at(run) : nullptr;
    threaded::linear_backward_input<T>(shape_, dy, weights(run), mask, to);
    for (std::int64_t i = 0; i < shape_.rows * shape_.inputs && add; ++i) dx[i] += to[i];
  }

  void finish_backward(const Run<T>& run) const override {
    const T* const dy = run.at(dy_data_);
    if (db_) bias_gradients(run, dy);
    if (dw_) weight_gradients(run, dy);
  }

  StageReport report() const override {
    const std::int64_t product = 2 * shape_.rows * shape_.inputs * shape_.outputs;
    return {message("linear ", shape_.inputs, " -> ", shape_.outputs, node_.relu ? " + relu" : ""),
            product, (dw_ ? product : 0) + (dx_mode_ == GradientMode::none ? 0 : product)};
  }

 private:
  const T* weights(const Run<T>& run) const {
    return run.stored[static_cast<std::size_t>(node_.w)];
  }

  void bias_gradients(const Run<T>& run, const T* dy) const {
    const ParameterGradient<T> db(run, node_.b, db_again_);
    T* const sums = run.at(bias_sums_);
    isa_table<T>().bias.backward(shape_.rows, shape_.outputs, 0, shape_.outputs, dy, sums);
    db.write(0, shape_.outputs, sums);
  }

  void weight_gradients(const Run<T>& run, const T* dy) const {
    const ParameterGradient<T> dw(run, node_.w, dw_again_);
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

  const LinearNode node_;
  const FewRowsShape shape_;
  const Layout dy_layout_;
  const InputArray<T> x_;
  const int y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  const bool dw_, db_, dw_again_, db_again_;
  const bool masked_, mask_dx_;     // by relu: dy already is, dx is to be
  int part_ = -1, bias_sums_ = -1;  // of dx, where it is added; of b
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_array_linear_stage(Builder<T>& builder, const LinearNode& node,
                                                  GradientMode dx, bool dw_again, bool db_again) {
  return std::make_unique<ArrayLinearStage<T>>(builder, node, dx, dw_again, db_again);
}
template std::unique_ptr<Stage<float>> make_array_linear_stage(Builder<float>&, const LinearNode&,
                                                               GradientMode, bool, bool);
template std::unique_ptr<Stage<double>> make_array_linear_stage(Builder<double>&, const LinearNode&,
                                                                GradientMode, bool, bool);

}  // namespace pynn
