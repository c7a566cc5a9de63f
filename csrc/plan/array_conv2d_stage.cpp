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
  ArrayConv2dStage(Builder<T>& builder, const Conv2dNode& node, const LayerGradients& gradients)
      : shape_(node.shape),
        units_(isa_table<T>().conv2d.units(node.shape)),
        layer_(builder, node, gradients),
        x_(builder.array(node.x)) {
    if (!builder.backward) return;
    if (layer_.needs_dw) builder.keep(node.x);
    if (layer_.adds_dx()) part_ = builder.backward_scratch(layer_.x.size());
    if (layer_.needs_dw)
      shards_ = builder.backward_scratch(std::max<std::int64_t>(units_.shards, 1) * weight_count());
    if (layer_.needs_db) bias_sums_ = builder.backward_scratch(shape_.O);
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const auto& kernels = isa_table<T>();
    const T *const x = x_.at(run), *const w = layer_.weights(run), *const b = layer_.bias(run);
    T* const y = run.at(layer_.y_data);
    parallel_for(
        units_.forward, work_of_unit(units_.forward), [&](std::int64_t begin, std::int64_t end) {
          kernels.conv2d.forward(shape_, begin, end, x, w, b, y, scratch<T>(units_.scratch));
        });
    if (!layer_.relu) return;
    parallel_rows<1>({&layer_.y}, blocks, [&](std::int64_t count, const auto& at) {
      kernels.relu.forward(count, y + at[0], y + at[0]);
    });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const auto& kernels = isa_table<T>();
    const T* const dy = layer_.pass_relu(run, blocks);
    if (!layer_.needs_dx()) return;
    T* const dx = run.at(layer_.dx_data);
    T* const to = layer_.adds_dx() ? run.at(part_) : dx;
    parallel_for(units_.backward_input, work_of_unit(units_.backward_input),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.conv2d.backward_input(shape_, begin, end, dy, layer_.weights(run), to,
                                                 scratch<T>(units_.scratch));
                 });
    if (layer_.adds_dx()) return pass_gradient(layer_.x, blocks, to, true, dx);
    if (!layer_.masks_dx) return;
    const T* const x = x_.at(run);
    parallel_rows<1>({&layer_.x}, blocks, [&](std::int64_t count, const auto& at) {
      kernels.relu.backward(count, dx + at[0], x + at[0], dx + at[0]);
    });
  }

  void finish_backward(const Run<T>& run) const override {
    const auto& kernels = isa_table<T>().conv2d;
    const T* const dy = run.at(layer_.dy_data);
    if (layer_.needs_dw) weight_gradients(run, dy);
    if (!layer_.needs_db) return;
    T* const sums = run.at(bias_sums_);
    parallel_for(shape_.O, layer_.y.size() / std::max<std::int64_t>(shape_.O, 1) * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.backward_bias(shape_, begin, end, dy, sums);
                 });
    layer_.bias_gradient(run).write(0, shape_.O, sums);
  }

  StageReport report() const override {
    const std::int64_t product = threaded::work_of(shape_);
    return {message("conv2d ", shape_.window.KH, " x ", shape_.window.KW, ", ", shape_.C, " -> ",
                    shape_.O, " channels", layer_.relu ? " + relu" : ""),
            product, (layer_.needs_dw ? product : 0) + (layer_.needs_dx() ? product : 0)};
  }

 private:
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
    const ParameterGradient<T> dw = layer_.weight_gradient(run);
    constexpr std::int64_t kPiece = 4096;
    parallel_for((size + kPiece - 1) / kPiece, kPiece * units_.shards * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   const std::int64_t first = begin * kPiece, last = std::min(end * kPiece, size);
                   kernels.combine(units_.shards, size, first, last, shards, shards);
                   dw.write(first, last - first, shards + first);
                 });
  }

  const Conv2dShape shape_;
  const Conv2dUnits units_;
  const WeightedLayer layer_;
  const InputArray<T> x_;
  int part_ = -1, shards_ = -1, bias_sums_ = -1;  // of dx, where it is added; of w; of b
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_array_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                                  const LayerGradients& gradients) {
  return std::make_unique<ArrayConv2dStage<T>>(builder, node, gradients);
}
template std::unique_ptr<Stage<float>> make_array_conv2d_stage(Builder<float>&, const Conv2dNode&,
                                                               const LayerGradients&);
template std::unique_ptr<Stage<double>> make_array_conv2d_stage(Builder<double>&, const Conv2dNode&,
                                                                const LayerGradients&);

}  // namespace pynn
