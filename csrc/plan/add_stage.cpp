#include "plan/add_stage.h"

#include "plan/rows.h"

namespace pynn {
namespace {

template <typename T>
class AddStage final : public Stage<T> {
 public:
  AddStage(Builder<T>& builder, const AddNode& node, GradientMode da, GradientMode db)
      : a_(builder.value(node.a).layout),
        b_(builder.value(node.b).layout),
        y_(builder.value(node.y).layout),
        gradient_(builder.value(node.y).gradient_layout),
        a_data_(builder.value(node.a).data),
        b_data_(builder.value(node.b).data),
        y_data_(builder.value(node.y).data),
        dy_data_(builder.value(node.y).gradient),
        targets_{{builder.value(node.a).gradient, da}, {builder.value(node.b).gradient, db}} {}

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const T *const a = run.at(a_data_, blocks), *const b = run.at(b_data_, blocks);
    T* const y = run.at(y_data_, blocks);
    parallel_rows<3>({&a_, &b_, &y_}, blocks, [&](std::int64_t count, const auto& at) {
      const T *const left = a + at[0], *const right = b + at[1];
      T* const to = y + at[2];
      for (std::int64_t i = 0; i < count; ++i) to[i] = left[i] + right[i];
    });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const T* const dy = run.at(dy_data_, blocks);
    for (const auto& [buffer, mode] : targets_) {
      if (mode == GradientMode::none) continue;
      pass_gradient(gradient_, blocks, dy, mode == GradientMode::add, run.at(buffer, blocks));
    }
  }

  StageReport report() const override { return {"add", 0, 0}; }

 private:
  struct Target {
    int buffer;
    GradientMode mode;
  };
  const Layout a_, b_, y_, gradient_;
  const int a_data_, b_data_, y_data_, dy_data_;
  const Target targets_[2];
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_add_stage(Builder<T>& builder, const AddNode& node, GradientMode da,
                                         GradientMode db) {
  return std::make_unique<AddStage<T>>(builder, node, da, db);
}
template std::unique_ptr<Stage<float>> make_add_stage(Builder<float>&, const AddNode&, GradientMode,
                                                      GradientMode);
template std::unique_ptr<Stage<double>> make_add_stage(Builder<double>&, const AddNode&,
                                                       GradientMode, GradientMode);

}  // namespace pynn
