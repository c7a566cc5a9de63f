#include "plan/array_max_pool2d_stage.h"

namespace pynn {
namespace {

template <typename T>
class ArrayMaxPool2dStage final : public Stage<T> {
 public:
  ArrayMaxPool2dStage(Builder<T>& builder, const MaxPool2dNode& node, GradientMode dx)
      : window_(node.window),
        planes_(builder.value(node.y).layout.samples * builder.value(node.y).layout.channels),
        x_(builder.array(node.x)),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx) {
    if (dx != GradientMode::none)
      codes_ = builder.arena.add(builder.value(node.y).layout.size(), builder.segment,
                                 builder.backward_time());
  }

  void forward(const Run<T>& run, BlockRange) const override {
    const T* const x = x_.at(run);
    T* const y = run.at(y_data_);
    std::uint8_t* const codes = codes_ < 0 ? nullptr : this->codes(run);
    parallel_planes([&](std::int64_t begin, std::int64_t end) {
      isa_table<T>().max_pool2d.forward_codes(window_, begin, end, x, y, codes);
    });
  }

  void backward(const Run<T>& run, BlockRange) const override {
    if (dx_mode_ == GradientMode::none) return;
    const T* const dy = run.at(dy_data_);
    T* const dx = run.at(dx_data_);
    const std::uint8_t* const codes = this->codes(run);
    parallel_planes([&](std::int64_t begin, std::int64_t end) {
      isa_table<T>().max_pool2d.backward_codes(window_, begin, end, dy, codes,
                                               dx_mode_ == GradientMode::add, dx);
    });
  }

  StageReport report() const override {
    return {message("max_pool2d ", window_.KH, " x ", window_.KW), 0, 0};
  }

 private:
  std::uint8_t* codes(const Run<T>& run) const {
    return reinterpret_cast<std::uint8_t*>(run.memory + run.arena->offset(codes_));
  }
  template <typename Function>
  void parallel_planes(const Function& function) const {
    parallel_for(planes_, window_.H * window_.W * kWorkPerMove, function);
  }

  const Window window_;
  const std::int64_t planes_;
  const InputArray<T> x_;
  const int y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  int codes_ = -1;  // which pixel of its window each maximum is
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_array_max_pool2d_stage(Builder<T>& builder,
                                                      const MaxPool2dNode& node, GradientMode dx) {
  return std::make_unique<ArrayMaxPool2dStage<T>>(builder, node, dx);
}
template std::unique_ptr<Stage<float>> make_array_max_pool2d_stage(Builder<float>&,
                                                                   const MaxPool2dNode&,
                                                                   GradientMode);
template std::unique_ptr<Stage<double>> make_array_max_pool2d_stage(Builder<double>&,
                                                                    const MaxPool2dNode&,
                                                                    GradientMode);

}  // namespace pynn
