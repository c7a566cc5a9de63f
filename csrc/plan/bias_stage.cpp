#include "plan/bias_stage.h"

#include "plan/rows.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

template <typename T>
class BiasStage final : public Stage<T> {
 public:
  BiasStage(Builder<T>& builder, const BiasNode& node, GradientMode dx, bool db_again)
      : node_(node),
        x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        gradient_(builder.value(node.x).gradient_layout),
        x_data_(builder.value(node.x).data),
        y_data_(builder.value(node.y).data),
        dx_data_(builder.value(node.x).gradient),
        dy_data_(builder.value(node.y).gradient),
        dx_mode_(dx),
        db_(builder.value(node.b).needed),
        db_again_(db_again) {
    if (builder.backward && db_) builder.arena.keep_whole(dy_data_);
    if (builder.backward && db_ && x_.is_array()) part_ = builder.backward_scratch(x_.features());
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    const T* const x = run.at(x_data_, blocks);
    const T* const b = run.stored[static_cast<std::size_t>(node_.b)];
    T* const y = run.at(y_data_, blocks);
    if (x_.is_array()) {
      const std::int64_t features = x_.features();
      parallel_for(blocks.count(), features * 2, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t first = (blocks.begin + begin) * features;
        isa_table<T>().bias.forward(end - begin, features, x + first, b, y + first);
      });
      return;
    }
    const std::int64_t rows = x_.channels * x_.height;  // of images
    parallel_for(blocks.count() * rows, x_.width * kBlockLanes * 2,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t row = blocks.begin * rows + begin;
                        row < blocks.begin * rows + end; ++row) {
                     const std::int64_t plane = row / x_.height, h = row % x_.height;
                     isa_table<T>().bias.forward_block(
                         x_.width, x + plane * x_.plane() + x_.at(h, 0), b + row % rows * x_.width,
                         y + plane * y_.plane() + y_.at(h, 0));
                   }
                 });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (dx_mode_ != GradientMode::none && dx_data_ != dy_data_)
      pass_gradient(gradient_, blocks, run.at(dy_data_, blocks), dx_mode_ == GradientMode::add,
                    run.at(dx_data_, blocks));
  }

  void finish_backward(const Run<T>& run) const override {
    if (!db_) return;
    const T* const dy = run.at(dy_data_);
    const std::int64_t features = gradient_.features();
    const ParameterGradient<T> db(run, node_.b, db_again_);
    if (gradient_.is_array()) {
      T* const sums = db.updates() || db.add() ? run.at(part_) : db.memory();
      parallel_for(
          features, gradient_.samples * kWorkPerMove, [&](std::int64_t begin, std::int64_t end) {
            isa_table<T>().bias.backward(gradient_.samples, features, begin, end, dy, sums);
            db.write(begin, end - begin, sums + begin);
          });
      return;
    }
    parallel_for(features, gradient_.blocks() * kBlockLanes * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   T* const part = db.updates() ? scratch<T>(end - begin) : db.memory() + begin;
                   isa_table<T>().dot_product.sum_rows(end - begin, kBlockLanes, gradient_.blocks(),
                                                       gradient_.block(), 1,
                                                       dy + begin * kBlockLanes, db.add(), part);
                   db.done(begin, end - begin, part);
                 });
  }

  StageReport report() const override { return {"bias", 0, 0}; }

 private:
  const BiasNode node_;
  const Layout x_, y_, gradient_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  const bool db_, db_again_;
  int part_ = -1;  // the gradient of b, where it does not go to its memory at once
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_bias_stage(Builder<T>& builder, const BiasNode& node,
                                          GradientMode dx, bool db_again) {
  return std::make_unique<BiasStage<T>>(builder, node, dx, db_again);
}
template std::unique_ptr<Stage<float>> make_bias_stage(Builder<float>&, const BiasNode&,
                                                       GradientMode, bool);
template std::unique_ptr<Stage<double>> make_bias_stage(Builder<double>&, const BiasNode&,
                                                        GradientMode, bool);

}  // namespace pynn
