#include "plan/reshape_stage.h"

#include "plan/convert.h"
#include "plan/rows.h"

namespace pynn {
namespace {

// Where x and y share their memory, there is nothing to do.
template <typename T>
class ReshapeStage final : public Stage<T> {
 public:
  ReshapeStage(Builder<T>& builder, const ReshapeNode& node, GradientMode dx)
      : x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        gradient_(builder.value(node.x).gradient_layout),
        x_data_(builder.value(node.x).data),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx) {}

  void forward(const Run<T>& run, BlockRange blocks) const override {
    if (x_data_ >= 0 && y_data_ >= 0 && x_data_ != y_data_)
      copy_blocks(x_, run.at(x_data_, blocks), y_, run.at(y_data_, blocks), blocks);
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (dx_mode_ == GradientMode::none || dx_data_ == dy_data_) return;
    pass_gradient(gradient_, blocks, run.at(dy_data_, blocks), dx_mode_ == GradientMode::add,
                  run.at(dx_data_, blocks));
  }

  StageReport report() const override {
    return {x_data_ == y_data_ ? "reshape (the same memory)" : "reshape", 0, 0};
  }

 private:
  const Layout x_, y_, gradient_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_reshape_stage(Builder<T>& builder, const ReshapeNode& node,
                                             GradientMode dx) {
  return std::make_unique<ReshapeStage<T>>(builder, node, dx);
}
template std::unique_ptr<Stage<float>> make_reshape_stage(Builder<float>&, const ReshapeNode&,
                                                          GradientMode);
template std::unique_ptr<Stage<double>> make_reshape_stage(Builder<double>&, const ReshapeNode&,
                                                           GradientMode);

}  // namespace pynn
