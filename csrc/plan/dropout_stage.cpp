#include "plan/dropout_stage.h"

#include <algorithm>
#include <cmath>

#include "plan/rows.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

template <typename T>
class DropoutStage final : public Stage<T> {
 public:
  DropoutStage(Builder<T>& builder, const DropoutNode& node, GradientMode dx)
      : node_(node),
        x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        gradient_(builder.value(node.x).gradient_layout),
        x_data_(builder.value(node.x).data),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx) {}

  void forward(const Run<T>& run, BlockRange blocks) const override {
    apply(run, blocks, x_, run.at(x_data_, blocks), y_, run.at(y_data_, blocks), false);
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (dx_mode_ != GradientMode::none)
      apply(run, blocks, gradient_, run.at(dy_data_, blocks), gradient_, run.at(dx_data_, blocks),
            dx_mode_ == GradientMode::add);
  }

  StageReport report() const override { return {message("dropout ", node_.p), 0, 0}; }

 private:
  // Rows of an image need not begin at a multiple of four words, so that a halo costs a copy, and
  // so does adding.
  void apply(const Run<T>& run, BlockRange blocks, const Layout& from_layout, const T* from,
             const Layout& to_layout, T* to, bool add) const {
    constexpr std::int64_t kPiece = 256;  // features; a multiple of 4
    const std::int64_t pieces = (x_.features() + kPiece - 1) / kPiece;
    const PhiloxStream stream{run.seed, run.step, node_.ordinal};
    const auto threshold =
        static_cast<std::uint32_t>(std::min(std::floor(node_.p * 4294967296.0), 4294967295.0));
    const T scale = static_cast<T>(1 / (1 - node_.p));
    const std::int64_t lanes = x_.lanes;
    const auto offset = [](const Layout& layout, std::int64_t feature) {
      const std::int64_t pixel = feature % layout.pixels();
      return feature / layout.pixels() * layout.plane() +
             layout.at(pixel / layout.width, pixel % layout.width);
    };
    parallel_for(
        blocks.count() * pieces, kPiece * lanes * 8, [&](std::int64_t begin, std::int64_t end) {
          alignas(64) T x_copy[kPiece * kBlockLanes], y_copy[kPiece * kBlockLanes];
          for (std::int64_t unit = begin; unit < end; ++unit) {
            const std::int64_t block = blocks.begin + unit / pieces, first = unit % pieces * kPiece;
            const std::int64_t count = std::min(kPiece, x_.features() - first);
            const T* const source = from + block * from_layout.block();
            T* const target = to + block * to_layout.block();
            const T* const x = from_layout.dense() ? source + first * lanes : x_copy;
            T* const y = to_layout.dense() && !add ? target + first * lanes : y_copy;
            for (std::int64_t i = 0; i < count && x == x_copy; ++i) {
              const T* const element = source + offset(from_layout, first + i);
              std::copy(element, element + lanes, x_copy + i * lanes);
            }
            const auto sample = run.first_sample + static_cast<std::uint32_t>(block * lanes);
            const auto& kernels = isa_table<T>().dropout;
            if (node_.p == 0 && x == y) continue;
            if (node_.p == 0)
              std::copy(x, x + count * lanes, y);
            else if (node_.p == 1)
              std::fill(y, y + count * lanes, T(0));
            else
              (lanes == 1 ? kernels.forward : kernels.forward_block)(stream, sample, first, count,
                                                                     threshold, scale, x, y);
            for (std::int64_t i = 0; i < count && y == y_copy; ++i) {
              T* const element = target + offset(to_layout, first + i);
              for (std::int64_t lane = 0; lane < lanes; ++lane)
                element[lane] = (add ? element[lane] : T(0)) + y[i * lanes + lane];
            }
          }
        });
  }

  const DropoutNode node_;
  const Layout x_, y_, gradient_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_dropout_stage(Builder<T>& builder, const DropoutNode& node,
                                             GradientMode dx) {
  return std::make_unique<DropoutStage<T>>(builder, node, dx);
}
template std::unique_ptr<Stage<float>> make_dropout_stage(Builder<float>&, const DropoutNode&,
                                                          GradientMode);
template std::unique_ptr<Stage<double>> make_dropout_stage(Builder<double>&, const DropoutNode&,
                                                           GradientMode);

}  // namespace pynn
