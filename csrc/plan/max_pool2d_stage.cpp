#include "plan/max_pool2d_stage.h"

#include "plan/rows.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

template <typename T>
class MaxPool2dStage final : public Stage<T> {
 public:
  MaxPool2dStage(Builder<T>& builder, const MaxPool2dNode& node, GradientMode dx)
      : node_(node),
        x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        dx_(builder.value(node.x).gradient_layout),
        dy_(builder.value(node.y).gradient_layout),
        x_data_(builder.value(node.x).data),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx),
        masks_dx_(node.window.KH * node.window.KW <= kNoPixel && builder.masks(node.x, dx)) {
    if (dx != GradientMode::none)
      codes_ = builder.arena.add(dy_.size(), builder.segment, builder.backward_time());
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const T* const x = run.at(x_data_, blocks);
    T* const y = run.at(y_data_, blocks);
    auto* const codes =
        codes_ < 0 ? nullptr
                   : reinterpret_cast<std::uint8_t*>(run.memory + run.arena->offset(codes_));
    parallel_planes(blocks, [&](std::int64_t plane) {
      isa_table<T>().max_pool2d.forward_block(node_.window, x + plane * x_.plane() + x_.at(0, 0),
                                              x_.row(), y + plane * y_.plane() + y_.at(0, 0),
                                              y_.row(), masks_dx_,
                                              codes ? codes + plane * dy_.plane() : nullptr);
    });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (dx_mode_ == GradientMode::none) return;
    const T* const dy = run.at(dy_data_, blocks);
    T* const dx = run.at(dx_data_, blocks);
    const auto* const codes =
        reinterpret_cast<const std::uint8_t*>(run.memory + run.arena->offset(codes_));
    const bool add = dx_mode_ == GradientMode::add;
    parallel_planes(blocks, [&](std::int64_t plane) {
      isa_table<T>().max_pool2d.backward_block(
          node_.window, dy + plane * dy_.plane() + dy_.at(0, 0), codes + plane * dy_.plane(), add,
          dx + plane * dx_.plane() + dx_.at(0, 0));
    });
  }

  StageReport report() const override {
    return {message("max_pool2d ", node_.window.KH, " x ", node_.window.KW), 0, 0};
  }

 private:
  // Calls function(plane) for each image and channel of these blocks.
  template <typename Function>
  void parallel_planes(BlockRange blocks, const Function& function) const {
    const std::int64_t work = x_.pixels() * kBlockLanes * kWorkPerMove;
    const std::int64_t first = blocks.begin * y_.channels;
    parallel_for(blocks.count() * y_.channels, work, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = first + begin; plane < first + end; ++plane) function(plane);
    });
  }

  const MaxPool2dNode node_;
  const Layout x_, y_, dx_, dy_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  const bool masks_dx_;
  int codes_ = -1;  // which pixel of its window each maximum is
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_max_pool2d_stage(Builder<T>& builder, const MaxPool2dNode& node,
                                                GradientMode dx) {
  return std::make_unique<MaxPool2dStage<T>>(builder, node, dx);
}
template std::unique_ptr<Stage<float>> make_max_pool2d_stage(Builder<float>&, const MaxPool2dNode&,
                                                             GradientMode);
template std::unique_ptr<Stage<double>> make_max_pool2d_stage(Builder<double>&,
                                                              const MaxPool2dNode&, GradientMode);

}  // namespace pynn
