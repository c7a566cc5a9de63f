#include "plan/pointwise_stage.h"

#include "plan/rows.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

template <typename T>
class PointwiseStage final : public Stage<T> {
 public:
  PointwiseStage(Builder<T>& builder, const PointwiseNode& node, GradientMode dx)
      : node_(node),
        x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        gradient_(builder.value(node.x).gradient_layout),
        x_data_(builder.value(node.x).data),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx) {
    if (dx != GradientMode::none) builder.keep(reads_x() ? node.x : node.y);
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const T* const x = run.at(x_data_, blocks);
    T* const y = run.at(y_data_, blocks);
    parallel_rows<2>({&x_, &y_}, blocks, [&](std::int64_t count, const auto& at) {
      apply(count, x + at[0], y + at[1]);
    });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (dx_mode_ == GradientMode::none) return;
    const T* const dy = run.at(dy_data_, blocks);
    const T* const data = run.at(reads_x() ? x_data_ : y_data_, blocks);
    T* const dx = run.at(dx_data_, blocks);
    parallel_rows<2>({&gradient_, reads_x() ? &x_ : &y_}, blocks,
                     [&](std::int64_t count, const auto& at) {
                       T* const to = dx + at[0];
                       if (dx_mode_ == GradientMode::overwrite) {
                         apply_backward(count, dy + at[0], data + at[1], to);
                         return;
                       }
                       T* const part = scratch<T>(count);
                       apply_backward(count, dy + at[0], data + at[1], part);
                       for (std::int64_t i = 0; i < count; ++i) to[i] += part[i];
                     });
  }

  StageReport report() const override {
    static constexpr const char* kNames[] = {"relu", "leaky_relu", "sigmoid", "tanh"};
    return {kNames[static_cast<int>(node_.kind)], 0, 0};
  }

 private:
  bool reads_x() const { return node_.kind == Pointwise::leaky_relu; }

  void apply(std::int64_t count, const T* x, T* y) const {
    const IsaTable<T>& k = isa_table<T>();
    switch (node_.kind) {
      case Pointwise::relu:
        return k.relu.forward(count, x, y);
      case Pointwise::leaky_relu:
        return k.leaky_relu.forward(count, x, y, static_cast<T>(node_.negative_slope));
      case Pointwise::sigmoid:
        return k.sigmoid.forward(count, x, y);
      case Pointwise::tanh:
        return k.tanh.forward(count, x, y);
    }
  }

  void apply_backward(std::int64_t count, const T* dy, const T* data, T* dx) const {
    const IsaTable<T>& k = isa_table<T>();
    switch (node_.kind) {
      case Pointwise::relu:
        return k.relu.backward(count, dy, data, dx);
      case Pointwise::leaky_relu:
        return k.leaky_relu.backward(count, dy, data, dx, static_cast<T>(node_.negative_slope));
      case Pointwise::sigmoid:
        return k.sigmoid.backward(count, dy, data, dx);
      case Pointwise::tanh:
        return k.tanh.backward(count, dy, data, dx);
    }
  }

  const PointwiseNode node_;
  const Layout x_, y_, gradient_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_pointwise_stage(Builder<T>& builder, const PointwiseNode& node,
                                               GradientMode dx) {
  return std::make_unique<PointwiseStage<T>>(builder, node, dx);
}
template std::unique_ptr<Stage<float>> make_pointwise_stage(Builder<float>&, const PointwiseNode&,
                                                            GradientMode);
template std::unique_ptr<Stage<double>> make_pointwise_stage(Builder<double>&, const PointwiseNode&,
                                                             GradientMode);

}  // namespace pynn
