// A dense layer: y^T = w x^T, where a block of samples is a column of x^T as it lies.
#include "plan/linear_stage.h"

#include <algorithm>

#include "plan/products.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

constexpr std::int64_t kFewBlocks = 8;     // of samples
constexpr std::int64_t kManyOutputs = 64;  // that pay for laying x and dy out once more
constexpr std::int64_t kNearBytes = 2 << 20;

template <typename T>
class LinearStage final : public Stage<T> {
 public:
  LinearStage(Builder<T>& builder, const LinearNode& node, const LayerGradients& gradients)
      : layer_(builder, node, gradients),
        from_rows_(reads_rows(builder.value(node.x), builder.value(node.w).shape, sizeof(T))),
        shares_outputs_(shares_outputs(builder.value(node.x), builder.value(node.w), sizeof(T))),
        samples_(layer_.x.samples),
        blocks_(layer_.x.blocks()),
        inputs_(layer_.x.features()),
        outputs_(layer_.y.features()),
        pitch_((inputs_ + kBlockLanes - 1) / kBlockLanes * kBlockLanes),
        given_(builder.value(node.x).rows),
        rows_as_given_(given_ >= 0 && pitch_ == inputs_ && outputs_ < kManyOutputs) {
    inputs_times_1_ = multiples<std::int32_t>(inputs_, 1);
    inputs_times_lanes_ = multiples<std::int32_t>(inputs_, kBlockLanes);
    x_blocks_ = multiples<std::int64_t>(blocks_, inputs_ * kBlockLanes);
    y_blocks_ = multiples<std::int64_t>(blocks_, outputs_ * kBlockLanes);
    columns_ = multiples<std::int64_t>(
        (std::max(inputs_, outputs_) + kBlockLanes - 1) / kBlockLanes, kBlockLanes);
    if (from_rows_)
      output_columns_ = multiples<std::int64_t>((outputs_ + kBlockLanes - 1) / kBlockLanes,
                                                inputs_ * kBlockLanes);
    if (!builder.backward) return;
    if (layer_.needs_dx()) {
      outputs_times_inputs_ = multiples<std::int32_t>(outputs_, inputs_);
      outputs_times_lanes_ = multiples<std::int32_t>(outputs_, kBlockLanes);
    }
    if (layer_.needs_dw) {
      if (rows_as_given_) {
        samples_times_pitch_ = multiples<std::int32_t>(samples_, pitch_);
        for (std::int64_t n = 0; n < samples_; ++n)
          lanes_.push_back(static_cast<std::int32_t>(n / kBlockLanes * outputs_ * kBlockLanes +
                                                     n % kBlockLanes));
      } else {
        samples_times_1_ = multiples<std::int32_t>(samples_, 1);
        samples_times_lanes_ = multiples<std::int32_t>(samples_, kBlockLanes);
        x_columns_ = multiples<std::int64_t>(pitch_ / kBlockLanes, samples_ * kBlockLanes);
        if (given_ < 0) builder.keep(node.x);
        columns_of_x_ = builder.backward_scratch(samples_ * pitch_);
        rows_of_dy_ = builder.backward_scratch(outputs_ * blocks_ * kBlockLanes);
      }
    }
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    if (from_rows_ && outputs_ < kBlockLanes) return forward_along_rows(run, blocks);
    if (from_rows_) return forward_from_rows(run, blocks);
    OuterProduct<T> product{};
    product.rows = outputs_;
    product.columns = blocks.count();
    product.depth = inputs_;
    product.even = true;
    product.a = layer_.weights(run);
    product.a_row = inputs_;
    product.a_offsets = inputs_times_1_.data();
    product.b = run.at(layer_.x_data);
    product.b_offsets = inputs_times_lanes_.data();
    product.b_columns = x_blocks_.data() + blocks.begin;
    product.c = run.at(layer_.y_data);
    product.c_row = kBlockLanes;
    product.c_columns = y_blocks_.data() + blocks.begin;
    product.bias = layer_.bias(run);
    product.relu = layer_.relu;
    // Rows of w are read best from end to end; what is read again for each of them must stay near.
    if (blocks.count() <= kFewBlocks) product.depth_block = inputs_;
    parallel_product(product);
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const T* const dy = layer_.pass_relu(run, blocks);
    if (layer_.needs_dx()) input_gradients(run, blocks, dy);
  }

  void finish_backward(const Run<T>& run) const override {
    if (layer_.needs_db) bias_gradients(run, run.at(layer_.dy_data));
    if (layer_.needs_dw) weight_gradients(run, run.at(layer_.dy_data));
  }

  // Those of the update, where that needs nothing laid out.
  FinishParts finish_parts(const Run<T>& run) const override {
    if (!layer_.needs_dw || !layer_.weight_gradient(run).updates()) return {};
    const std::int64_t work = 2 * outputs_ * pitch_ * samples_;
    if (rows_as_given_) return {update_cut(run).count(), work, !layer_.needs_dx()};
    const std::int64_t moves = (pitch_ + 2 * outputs_) * samples_ * kWorkPerMove;
    return work + moves < 2 * kWorkPerThread ? FinishParts{1, work + moves} : FinishParts{};
  }
  void finish_part(const Run<T>& run, std::int64_t part) const override {
    const T* const dy = run.at(layer_.dy_data);
    if (layer_.needs_db && part == 0) bias_gradients(run, dy);
    update_part(weight_product(run, dy), layer_.weight_gradient(run), update_cut(run), part);
  }

  StageReport report() const override {
    const std::int64_t product = 2 * inputs_ * outputs_ * blocks_ * kBlockLanes;
    return {message("linear ", inputs_, " -> ", outputs_, layer_.relu ? " + relu" : ""), product,
            (layer_.needs_dw ? product : 0) + (layer_.needs_dx() ? product : 0)};
  }

 private:
  // y^T = w x^T where the outputs are fewer than a block has lanes: dot products along the inputs,
  // of w and x as they lie.
  void forward_along_rows(const Run<T>& run, BlockRange blocks) const {
    const T *const bias = layer_.bias(run), *const w = layer_.weights(run);
    // Other threads have just updated some of them: they come from there as many as can at once.
    for (std::int64_t i = 0; i < outputs_ * inputs_; i += 64 / std::int64_t{sizeof(T)})
      __builtin_prefetch(w + i);
    for (std::int64_t block = blocks.begin; block < blocks.end; ++block) {
      const std::int64_t first = block * kBlockLanes;
      const std::int64_t count = std::min(kBlockLanes, samples_ - first);
      T* const y = run.at(layer_.y_data) + block * outputs_ * kBlockLanes;
      T* const sums = count < kBlockLanes ? scratch<T>(outputs_ * count) : y;
      isa_table<T>().few_rows.forward({outputs_, inputs_, count}, 0, count, layer_.weights(run),
                                      run.rows[static_cast<std::size_t>(given_)] + first * inputs_,
                                      nullptr, false, false, sums);
      for (std::int64_t o = 0; o < outputs_; ++o)
        for (std::int64_t lane = 0; lane < kBlockLanes; ++lane) {
          T value = bias ? bias[o] : T(0);
          if (lane < count) value += sums[o * count + lane];
          y[o * kBlockLanes + lane] = layer_.relu && value < T(0) ? T(0) : value;
        }
    }
  }

  // y = x w^T with the samples in the rows of the product, for layers of few outputs: turning w
  // into columns of outputs costs less than turning x into blocks of samples.
  void forward_from_rows(const Run<T>& run, BlockRange blocks) const {
    constexpr std::int64_t kSamples = 64;  // of a unit of work where outputs are shared
    const std::int64_t columns = (outputs_ + kBlockLanes - 1) / kBlockLanes;
    if (!shares_outputs_)
      return multiply_rows(run, 0, columns, blocks.begin * kBlockLanes,
                           std::min(blocks.end * kBlockLanes, samples_));
    const std::int64_t units = (samples_ + kSamples - 1) / kSamples;
    const std::int64_t work = 2 * inputs_ * kBlockLanes * std::min(samples_, kSamples);
    parallel_for(columns * units, work, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin, last; unit < end; unit = last) {
        const std::int64_t column = unit / units, start = unit % units;
        const std::int64_t whole = start ? 0 : (end - unit) / units;
        last = whole ? unit + whole * units : std::min(end, (column + 1) * units);
        multiply_rows(run, column, std::max<std::int64_t>(whole, 1), start * kSamples,
                      std::min((start + last - unit) * kSamples, samples_));
      }
    });
  }

  // The same for some columns of 16 outputs and some samples, of which the first begins a block.
  void multiply_rows(const Run<T>& run, std::int64_t column, std::int64_t columns,
                     std::int64_t first, std::int64_t past) const {
    const auto& kernels = isa_table<T>();
    const T* const w = layer_.weights(run);
    const T* const bias = layer_.bias(run);
    const std::int64_t output = column * kBlockLanes, pitch = columns * kBlockLanes;
    const std::int64_t outputs = std::min(pitch, outputs_ - output);
    T* const turned = scratch<T>((inputs_ + past - first) * pitch);
    T* const y = turned + inputs_ * pitch;
    const T* rows[kBlockLanes];
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t lane = 0; lane < kBlockLanes; ++lane) {
        const std::int64_t o = c * kBlockLanes + lane;
        rows[lane] = o < outputs ? w + (output + o) * inputs_ : nullptr;
      }
      kernels.sample_blocks.gather(inputs_, rows, turned + c * inputs_ * kBlockLanes);
    }
    for (std::int64_t n = 0; n < past - first; ++n)
      for (std::int64_t o = 0; o < pitch; ++o)
        y[n * pitch + o] = bias && o < outputs ? bias[output + o] : T(0);
    OuterProduct<T> product{};
    product.rows = past - first;
    product.columns = columns;
    product.depth = inputs_;
    product.even = true;
    product.a = run.rows[static_cast<std::size_t>(given_)] + first * inputs_;
    product.a_row = inputs_;
    product.a_offsets = inputs_times_1_.data();
    product.b = turned;
    product.b_offsets = inputs_times_lanes_.data();
    product.b_columns = output_columns_.data();
    product.c = y;
    product.c_row = pitch;
    product.c_columns = columns_.data();
    product.accumulate = true;
    product.relu = layer_.relu;
    kernels.outer_product.run(product);
    for (std::int64_t sample = first; sample < past; sample += kBlockLanes) {
      for (std::int64_t lane = 0; lane < kBlockLanes; ++lane)
        rows[lane] = sample + lane < past ? y + (sample + lane - first) * pitch : nullptr;
      kernels.sample_blocks.gather(
          outputs, rows, run.at(layer_.y_data) + sample * outputs_ + output * kBlockLanes);
    }
  }

  void input_gradients(const Run<T>& run, BlockRange blocks, const T* dy) const {
    OuterProduct<T> product{};
    product.rows = inputs_;
    product.columns = blocks.count();
    product.depth = outputs_;
    product.even = true;
    product.a = layer_.weights(run);
    product.a_row = 1;
    product.a_offsets = outputs_times_inputs_.data();
    product.b = dy;
    product.b_offsets = outputs_times_lanes_.data();
    product.b_columns = y_blocks_.data() + blocks.begin;
    product.c = run.at(layer_.dx_data);
    product.c_row = kBlockLanes;
    product.c_columns = x_blocks_.data() + blocks.begin;
    product.accumulate = layer_.adds_dx();
    product.mask = layer_.masks_dx ? run.at(layer_.x_data) : nullptr;
    // Of weights that do not stay near, a few rows at a time are read from end to end: they come
    // from memory in order, and do not displace each other.
    if (inputs_ * outputs_ * static_cast<std::int64_t>(sizeof(T)) > kNearBytes)
      product.depth_block = blocks.count() == 1 ? 32 : 96;
    parallel_product(product);
  }

  void weight_gradients(const Run<T>& run, const T* dy) const {
    if (!rows_as_given_) {
      lay_out_columns_of_x(run, run.at(columns_of_x_));
      lay_out_rows_of_dy(dy, run.at(rows_of_dy_));
    }
    OuterProduct<T> product = weight_product(run, dy);
    const ParameterGradient<T> dw = layer_.weight_gradient(run);
    if (!dw.updates()) {
      product.c = dw.memory();
      product.accumulate = dw.add();
      return parallel_product(product);
    }
    const UpdateCut cut = update_cut(run);
    parallel_for(cut.count(), 2 * outputs_ * pitch_ * samples_ / cut.count(),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t part = begin; part < end; ++part)
                     update_part(product, dw, cut, part);
                 });
  }

  // All but where it goes.
  OuterProduct<T> weight_product(const Run<T>& run, const T* dy) const {
    OuterProduct<T> product{};
    product.rows = outputs_;
    product.columns = pitch_ / kBlockLanes;
    product.depth = samples_;
    product.c_row = inputs_;
    product.c_columns = columns_.data();
    product.last_lanes = kBlockLanes - (pitch_ - inputs_);
    if (rows_as_given_) {
      product.a = dy;
      product.a_row = kBlockLanes;
      product.a_offsets = lanes_.data();
      product.b = run.rows[static_cast<std::size_t>(given_)];
      product.b_offsets = samples_times_pitch_.data();
      product.b_columns = columns_.data();
      product.fetch_b = reinterpret_cast<std::uintptr_t>(product.b) % 64 != 0;  // across lines
    } else {
      product.even = true;
      product.a = run.at(rows_of_dy_);
      product.a_row = blocks_ * kBlockLanes;
      product.a_offsets = samples_times_1_.data();
      product.b = run.at(columns_of_x_);
      product.b_offsets = samples_times_lanes_.data();
      product.b_columns = x_columns_.data();
    }
    return product;
  }

  // x as the product of the weight gradients reads it: (columns of 16 inputs, samples, 16).
  void lay_out_columns_of_x(const Run<T>& run, T* to) const {
    const T* const given = given_ < 0 ? nullptr : run.rows[static_cast<std::size_t>(given_)];
    const T* const x = given ? nullptr : run.at(layer_.x_data);
    parallel_for(pitch_ / kBlockLanes, samples_ * kBlockLanes * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t column = begin; column < end; ++column) {
                     const std::int64_t input = column * kBlockLanes;
                     const std::int64_t count = std::min(kBlockLanes, inputs_ - input);
                     T* const lines = to + column * samples_ * kBlockLanes;
                     if (count < kBlockLanes) std::fill_n(lines, samples_ * kBlockLanes, T(0));
                     for (std::int64_t n = 0; given && n < samples_; ++n) {
                       const T* const from = given + n * inputs_ + input;
                       T* const line = lines + n * kBlockLanes;
                       if (count == kBlockLanes)  // of a size that is known
                         std::copy_n(from, kBlockLanes, line);
                       else
                         std::copy_n(from, count, line);
                     }
                     for (std::int64_t block = 0; x && block < blocks_; ++block) {
                       T* rows[kBlockLanes];
                       for (std::int64_t lane = 0; lane < kBlockLanes; ++lane) {
                         const std::int64_t n = block * kBlockLanes + lane;
                         rows[lane] = n < samples_ ? lines + n * kBlockLanes : nullptr;
                       }
                       isa_table<T>().sample_blocks.scatter(
                           count, x + (block * inputs_ + input) * kBlockLanes, rows);
                     }
                   }
                 });
  }

  // dy likewise: (outputs, blocks, 16).
  void lay_out_rows_of_dy(const T* dy, T* to) const {
    parallel_for(outputs_, blocks_ * kBlockLanes * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t o = begin; o < end; ++o)
                     for (std::int64_t block = 0; block < blocks_; ++block)
                       std::copy_n(dy + (block * outputs_ + o) * kBlockLanes, kBlockLanes,
                                   to + (o * blocks_ + block) * kBlockLanes);
                 });
  }

  // Panels of columns of the weight gradient, each in as many parts of rows.
  struct UpdateCut {
    bool in_rows;
    std::int64_t panels, parts;
    std::int64_t count() const { return panels * parts; }
  };

  // What a narrow panel reads of x stays in the first-level cache while the weights pass by; but
  // where it is the weights, and what the optimizer keeps beside them, that take the time, they are
  // read best from end to end.
  UpdateCut update_cut(const Run<T>& run) const {
    const auto& kernels = isa_table<T>().outer_product;
    constexpr std::int64_t kUnits = 32;  // so that threads have about equal work
    constexpr std::int64_t kPanelBytes = 512 * 1024, kNearWeights = 512 * 1024;
    constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
    const bool steps = layer_.weight_gradient(run).update().step().has_value();
    const bool in_rows = blocks_ <= 2 || (!steps && inputs_ * outputs_ * kBytes > kNearWeights);
    const std::int64_t column_bytes = samples_ * kBlockLanes * kBytes;
    const std::int64_t tiles =
        in_rows ? std::max<std::int64_t>(kPanelBytes / column_bytes / kernels.columns, 1) : 1;
    const std::int64_t wide = tiles * kernels.columns;
    const std::int64_t panels = (pitch_ / kBlockLanes + wide - 1) / wide;
    const std::int64_t row_tiles = (outputs_ + kernels.rows - 1) / kernels.rows;
    return {in_rows, panels,
            in_rows ? row_tiles : std::clamp<std::int64_t>(kUnits / panels, 1, row_tiles)};
  }

  // Updates its weights while their gradient is in registers, or at least in the cache.
  void update_part(const OuterProduct<T>& product, const ParameterGradient<T>& dw,
                   const UpdateCut& cut, std::int64_t number) const {
    constexpr std::int64_t kNearLines = 128;
    const std::optional<GradientStep<T>> step = dw.update().step();
    const std::int64_t part_number = number / cut.panels, panel = number % cut.panels;
    const std::int64_t column = product.columns * panel / cut.panels;
    const std::int64_t row = outputs_ * part_number / cut.parts;
    OuterProduct<T> part = product;
    part.rows = outputs_ * (part_number + 1) / cut.parts - row;
    part.columns = product.columns * (panel + 1) / cut.panels - column;
    if (column + part.columns < product.columns) part.last_lanes = kBlockLanes;
    const std::int64_t count = (part.columns - 1) * kBlockLanes + part.last_lanes;
    const std::int64_t first = row * inputs_ + column * kBlockLanes;
    // Before the product, if it all stays; else its tiles fetch what they need.
    const bool stays = cut.in_rows || part.rows * part.columns <= kNearLines;
    for (std::int64_t r = 0; stays && r < part.rows; ++r) dw.prefetch(first + r * inputs_, count);
    part.a += row * product.a_row;
    part.b_columns += column;
    if (step) {
      part.c = dw.update().p + row * inputs_;
      part.c_columns += column;
      part.step = &*step;
      part.depth_block = samples_;
      return isa_table<T>().outer_product.run(part);
    }
    part.c_row = part.columns * kBlockLanes;
    part.c = scratch<T>(part.rows * part.c_row);
    isa_table<T>().outer_product.run(part);
    for (std::int64_t r = 0; r < part.rows; ++r)
      dw.done(first + r * inputs_, count, part.c + r * part.c_row);
  }

  void bias_gradients(const Run<T>& run, const T* dy) const {
    const ParameterGradient<T> db = layer_.bias_gradient(run);
    const std::int64_t units = (outputs_ + kBlockLanes - 1) / kBlockLanes;
    parallel_for(units, kBlockLanes * blocks_ * kBlockLanes * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   const std::int64_t first = begin * kBlockLanes;
                   const std::int64_t count = std::min(end * kBlockLanes, outputs_) - first;
                   T* const part = db.updates() ? scratch<T>(count) : db.memory() + first;
                   isa_table<T>().dot_product.sum_rows(count, kBlockLanes, blocks_,
                                                       outputs_ * kBlockLanes, 1,
                                                       dy + first * kBlockLanes, db.add(), part);
                   db.done(first, count, part);
                 });
  }

  const WeightedLayer layer_;
  const bool from_rows_, shares_outputs_;
  const std::int64_t samples_, blocks_, inputs_, outputs_;
  const std::int64_t pitch_;  // of rows of samples: whole columns
  const int given_;           // the input that x is, as rows; -1: none
  const bool rows_as_given_;
  int columns_of_x_ = -1, rows_of_dy_ = -1;
  std::vector<std::int32_t> inputs_times_1_, inputs_times_lanes_, outputs_times_inputs_,
      outputs_times_lanes_, samples_times_pitch_, lanes_, samples_times_1_, samples_times_lanes_;
  std::vector<std::int64_t> x_blocks_, y_blocks_, columns_, output_columns_, x_columns_;
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_linear_stage(Builder<T>& builder, const LinearNode& node,
                                            const LayerGradients& gradients) {
  return std::make_unique<LinearStage<T>>(builder, node, gradients);
}
template std::unique_ptr<Stage<float>> make_linear_stage(Builder<float>&, const LinearNode&,
                                                         const LayerGradients&);
template std::unique_ptr<Stage<double>> make_linear_stage(Builder<double>&, const LinearNode&,
                                                          const LayerGradients&);

}  // namespace pynn
