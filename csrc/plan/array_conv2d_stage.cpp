#include "plan/array_conv2d_stage.h"

#include <algorithm>

#include "plan/rows.h"
#include "runtime/scratch.h"
#include "threaded/conv2d.h"

namespace pynn {
namespace {

template <typename T>
class ArrayConv2dStage final : public Stage<T> {
 public:
  ArrayConv2dStage(Builder<T>& builder, const Conv2dNode& node, GradientMode dx, bool dw_again,
                   bool db_again)
      : node_(node),
        shape_(node.shape),
        units_(isa_table<T>().conv2d.units(node.shape)),
        x_layout_(builder.value(node.x).layout),
        y_layout_(builder.value(node.y).layout),
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
    if (dx == GradientMode::add) part_ = builder.backward_scratch(x_layout_.size());
    if (dw_)
      shards_ = builder.backward_scratch(std::max<std::int64_t>(units_.shards, 1) * weight_count());
    if (db_) bias_sums_ = builder.backward_scratch(shape_.O);
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const auto& kernels = isa_table<T>();
    const T* const b = node_.b < 0 ? nullptr : run.stored[static_cast<std::size_t>(node_.b)];
    const T *const x = x_.at(run), *const w = weights(run);
    T* const y = run.at(y_data_);
    parallel_for(
        units_.forward, work_of_unit(units_.forward), [&](std::int64_t begin, std::int64_t end) {
          kernels.conv2d.forward(shape_, begin, end, x, w, b, y, scratch<T>(units_.scratch));
        });
    if (!node_.relu) return;
    parallel_rows<1>({&y_layout_}, blocks, 1, [&](std::int64_t count, const auto& at) {
      kernels.relu.forward(count, y + at[0], y + at[0]);
    });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const auto& kernels = isa_table<T>();
    T* const dy = run.at(dy_data_);
    if (node_.relu && !masked_) {
      const T* const y = run.at(y_data_);
      parallel_rows<1>({&y_layout_}, blocks, 1, [&](std::int64_t count, const auto& at) {
        kernels.relu.backward(count, dy + at[0], y + at[0], dy + at[0]);
      });
    }
    if (dx_mode_ == GradientMode::none) return;
    T* const dx = run.at(dx_data_);
    const bool add = dx_mode_ == GradientMode::add;
    T* const to = add ? run.at(part_) : dx;
    parallel_for(units_.backward_input, work_of_unit(units_.backward_input),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.conv2d.backward_input(shape_, begin, end, dy, weights(run), to,
                                                 scratch<T>(units_.scratch));
                 });
    if (add) return pass_gradient(x_layout_, blocks, to, true, dx);
    if (!mask_dx_) return;
    const T* const x = x_.at(run);
    parallel_rows<1>({&x_layout_}, blocks, 1, [&](std::int64_t count, const auto& at) {
      kernels.relu.backward(count, dx + at[0], x + at[0], dx + at[0]);
    });
  }

  void finish_backward(const Run<T>& run) const override {
    const auto& kernels = isa_table<T>().conv2d;
    const T* const dy = run.at(dy_data_);
    if (dw_) weight_gradients(run, dy);
    if (!db_) return;
    T* const sums = run.at(bias_sums_);
    parallel_for(shape_.O, y_layout_.size() / std::max<std::int64_t>(shape_.O, 1),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.backward_bias(shape_, begin, end, dy, sums);
                 });
    ParameterGradient<T>(run, node_.b, db_again_).write(0, shape_.O, sums);
  }

  StageReport report() const override {
    const std::int64_t product = threaded::work_of(shape_);
    return {message("conv2d ", shape_.window.KH, " x ", shape_.window.KW, ", ", shape_.C, " -> ",
                    shape_.O, " channels", node_.relu ? " + relu" : ""),
            product, (dw_ ? product : 0) + (dx_mode_ == GradientMode::none ? 0 : product)};
  }

 private:
  const T* weights(const Run<T>& run) const {
    return run.stored[static_cast<std::size_t>(node_.w)];
  }
  std::int64_t weight_count() const {
    return shape_.O * (shape_.C / shape_.groups) * shape_.window.KH * shape_.window.KW;
  }
  std::int64_t work_of_unit(std::int64_t units) const {
    return threaded::work_of(shape_) / std::max<std::int64_t>(units, 1);
  }

  void weight_gradients(const Run<T>& run, const T* dy) const {
    const auto& kernels = isa_table<T>().conv2d;
    const std::int64_t size = weight_count();
    const T* const x = x_.at(run);
    T* const shards = run.at(shards_);
    parallel_for(units_.backward_weight, work_of_unit(units_.backward_weight),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.backward_weight(shape_, begin, end, dy, x, shards,
                                           scratch<T>(units_.scratch));
                 });
    const ParameterGradient<T> dw(run, node_.w, dw_again_);
    constexpr std::int64_t kPiece = 4096;
    parallel_for((size + kPiece - 1) / kPiece, kPiece * units_.shards,
                 [&](std::int64_t begin, std::int64_t end) {
                   const std::int64_t first = begin * kPiece, last = std::min(end * kPiece, size);
                   kernels.combine(units_.shards, size, first, last, shards, shards);
                   dw.write(first, last - first, shards + first);
                 });
  }

  const Conv2dNode node_;
  const Conv2dShape shape_;
  const Conv2dUnits units_;
  const Layout x_layout_, y_layout_;
  const InputArray<T> x_;
  const int y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  const bool dw_, db_, dw_again_, db_again_;
  const bool masked_, mask_dx_;                   // by relu: dy already is, dx is to be
  int part_ = -1, shards_ = -1, bias_sums_ = -1;  // of dx, where it is added; of w; of b
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_array_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                                  GradientMode dx, bool dw_again, bool db_again) {
  return std::make_unique<ArrayConv2dStage<T>>(builder, node, dx, dw_again, db_again);
}
template std::unique_ptr<Stage<float>> make_array_conv2d_stage(Builder<float>&, const Conv2dNode&,
                                                               GradientMode, bool, bool);
template std::unique_ptr<Stage<double>> make_array_conv2d_stage(Builder<double>&, const Conv2dNode&,
                                                                GradientMode, bool, bool);

}  // namespace pynn
