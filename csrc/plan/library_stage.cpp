#include "plan/library_stage.h"

#include <algorithm>
#include <array>
#include <utility>

#include "plan/convert.h"

namespace pynn {
namespace {

template <typename T>
constexpr std::int32_t kType = sizeof(T) == 8 ? PYNN_FLOAT64 : PYNN_FLOAT32;

constexpr std::int64_t kPiece = 4096;  // elements that a pointwise operator gets at once
constexpr std::int64_t kWorkPerElement = 16;

// Runs a function; its errors say where in the model they arose.
template <typename Function>
void at_path(const std::string& path, const Function& function) {
  try {
    function();
  } catch (const OperatorError& error) {
    throw OperatorError(path + ": " + error.what());
  }
}

// Lanes that pad the last block: what was computed there is nobody's.
template <typename T>
void clear_lanes(std::int64_t lanes, std::int64_t valid, std::int64_t count, T* lines) {
  for (std::int64_t i = 0; i < count && valid < lanes; i += lanes)
    std::fill(lines + i + valid, lines + i + lanes, T(0));
}

// A buffer of a value: its layout, and its number in the arena.
struct Lying {
  Layout layout;
  int buffer = -1;
};

using Offsets = std::array<std::int64_t, 2 * kMaxOperatorInputs + 2>;

// On blocks of samples. All arrays have one shape; they differ in halos and gaps.
template <typename T>
class BlockStage final : public Stage<T> {
 public:
  BlockStage(Builder<T>& builder, const LibraryNode& node, std::vector<GradientMode> modes)
      : node_(node), modes_(std::move(modes)) {
    for (const int input : node.inputs) {
      const Value& x = builder.value(input);
      inputs_.push_back({x.layout, x.data});
      gradients_.push_back({x.gradient_layout, x.gradient});
      if (node.op->reads_inputs()) builder.keep(input);
    }
    if (node.op->reads_output()) builder.keep(node.y);
    const Value& y = builder.value(node.y);
    y_ = {y.layout, y.data};
    dy_ = {y.gradient_layout, y.gradient};
    lanes_ = y.layout.lanes;
    valid_ = y.layout.samples - (y.layout.blocks() - 1) * lanes_;
    forward_ = inputs_;
    forward_.push_back(y_);
    backward_.push_back(dy_);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      backward_.push_back(node.op->reads_inputs() ? inputs_[i] : dy_);
      backward_.push_back(modes_[i] == GradientMode::none ? dy_ : gradients_[i]);
      parts_ += through_memory(i) ? 1 : 0;
    }
    backward_.push_back(node.op->reads_output() ? y_ : dy_);
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    walk(run, blocks, forward_, kPiece,
         [&](std::int64_t count, std::int64_t padded, const std::array<T*, kMost>& at) {
           OperatorArrays arrays;
           for (std::size_t i = 0; i < inputs_.size(); ++i) arrays.inputs[i] = at[i];
           T* const y = at[inputs_.size()];
           arrays.y = y;
           node_.op->forward_piece(count, *node_.attributes, kType<T>, arrays);
           clear_lanes(lanes_, valid_, padded, y + count - padded);
         });
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    const std::size_t inputs = inputs_.size();
    // What is added goes through memory of the stack, which is shared by all that is.
    const std::int64_t each =
        kPiece / std::max<std::int64_t>(parts_, 1) / kBlockLanes * kBlockLanes;
    walk(run, blocks, backward_, each,
         [&](std::int64_t count, std::int64_t padded, const std::array<T*, kMost>& at) {
           alignas(64) T memory[kPiece];
           OperatorArrays arrays;
           arrays.dy = at[0];
           arrays.y = at[1 + 2 * inputs];
           std::int64_t part = 0;
           for (std::size_t i = 0; i < inputs; ++i) {
             arrays.inputs[i] = at[1 + 2 * i];
             if (modes_[i] == GradientMode::none || !node_.op->has_gradient(i)) continue;
             arrays.gradients[i] = through_memory(i) ? memory + each * part++ : at[2 + 2 * i];
           }
           if (node_.op->has_backward())
             node_.op->backward_piece(count, *node_.attributes, kType<T>, arrays);
           for (std::size_t i = 0; i < inputs; ++i) {
             if (modes_[i] == GradientMode::none) continue;
             T* const to = at[2 + 2 * i];
             const T* const from = static_cast<const T*>(arrays.gradients[i]);
             if (!from && modes_[i] == GradientMode::overwrite) std::fill(to, to + count, T(0));
             if (from && from != to)
               for (std::int64_t k = 0; k < count; ++k) to[k] += from[k];
             clear_lanes(lanes_, valid_, padded, to + count - padded);
           }
         });
  }

  StageReport report() const override {
    return {message(node_.op->name(), " (", node_.op->library(), ", on blocks)"), 0, 0};
  }

 private:
  static constexpr std::size_t kMost = std::tuple_size_v<Offsets>;

  bool through_memory(std::size_t input) const {
    return modes_[input] == GradientMode::add && node_.op->has_gradient(input);
  }

  // Calls function(count, padded, pointers) for runs of at most `most` neighbouring elements, of
  // which the last `padded` belong to a block that samples do not fill.
  template <typename Function>
  void walk(const Run<T>& run, BlockRange blocks, const std::vector<Lying>& walked,
            std::int64_t most, const Function& function) const {
    const Layout& first = walked[0].layout;
    const std::size_t count = walked.size();
    std::array<T*, kMost> base{};
    bool dense = true;
    for (std::size_t i = 0; i < count; ++i) {
      base[i] = run.at(walked[i].buffer, blocks);
      dense = dense && walked[i].layout.dense();
    }
    const std::int64_t full = valid_ == lanes_ ? first.blocks() : first.blocks() - 1;
    const auto piece = [&](std::int64_t size, const Offsets& offsets, std::int64_t padded) {
      std::array<T*, kMost> at{};
      for (std::size_t i = 0; i < count; ++i) at[i] = base[i] + offsets[i];
      at_path(node_.path, [&] { function(size, padded, at); });
    };
    if (dense) {
      const std::int64_t start = blocks.begin * first.block(), end = blocks.end * first.block();
      parallel_for((end - start + most - 1) / most, most * kWorkPerElement,
                   [&](std::int64_t from, std::int64_t to) {
                     Offsets offsets{};
                     for (std::int64_t i = from; i < to; ++i) {
                       const std::int64_t begin = start + i * most;
                       const std::int64_t size = std::min(most, end - begin);
                       offsets.fill(begin);
                       piece(
                           size, offsets,
                           std::clamp(begin + size - full * first.block(), std::int64_t{0}, size));
                     }
                   });
      return;
    }
    const std::int64_t rows = first.channels * first.height, row = first.width * lanes_;
    parallel_for(
        blocks.count() * rows, row * kWorkPerElement, [&](std::int64_t from, std::int64_t to) {
          Offsets offsets{};
          for (std::int64_t i = blocks.begin * rows + from; i < blocks.begin * rows + to; ++i) {
            const std::int64_t plane = i / first.height, h = i % first.height;
            for (std::int64_t begin = 0; begin < row; begin += most) {
              const std::int64_t size = std::min(most, row - begin);
              for (std::size_t k = 0; k < count; ++k) {
                const Layout& layout = walked[k].layout;
                offsets[k] = plane * layout.plane() + layout.at(h, 0) + begin;
              }
              piece(size, offsets, i / rows >= full ? size : 0);
            }
          }
        });
  }

  const LibraryNode node_;
  const std::vector<GradientMode> modes_;
  std::vector<Lying> inputs_, gradients_;
  std::vector<Lying> forward_;   // the inputs, y
  std::vector<Lying> backward_;  // dy; each input and its gradient; y. dy where there is nothing
  Lying y_, dy_;
  std::int64_t parts_ = 0;              // gradients that are added
  std::int64_t lanes_ = 0, valid_ = 0;  // of a block; of the last one, those that are samples
};

// On arrays (N, ...), which are copied from the blocks and back.
template <typename T>
class ArrayStage final : public Stage<T> {
 public:
  ArrayStage(Builder<T>& builder, const LibraryNode& node, std::vector<GradientMode> modes)
      : node_(node), modes_(std::move(modes)) {
    const LibraryOperator& op = *node.op;
    std::vector<std::optional<Shape>> shapes;
    for (const int input : node.inputs)
      shapes.push_back(input < 0 ? std::nullopt : std::optional<Shape>(builder.value(input).shape));
    shapes_ = op.shapes(shapes, *node.attributes);
    at_path(node_.path, [&] { memory_ = op.memory(shapes_, *node.attributes, kType<T>); });
    flops_ = op.flops(shapes_, *node.attributes).value_or(0);

    const int time = builder.segment, backward_time = builder.backward_time();
    const auto add = [&](std::int64_t bytes, int first, int last) {
      return bytes > 0 ? builder.arena.add(bytes, first, last) : -1;
    };
    const auto array = [&](const DenseShape& shape, int at) {
      const std::int64_t bytes = shape.count() * static_cast<std::int64_t>(sizeof(T));
      return builder.arena.add(bytes, at, at);
    };
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      Input input;
      input.value = node.inputs[i];
      if (input.value >= 0) {
        const Value& x = builder.value(input.value);
        input.stored = x.stored;
        if (!x.stored) {
          input.blocks = {x.layout, x.data};
          input.gradient_blocks = {x.gradient_layout, x.gradient};
          input.rows = array(shapes_.inputs[i], time);
          if (builder.backward && op.reads_inputs()) {
            builder.keep(input.value);
            input.backward_rows = array(shapes_.inputs[i], backward_time);
          }
        }
        if (modes_[i] != GradientMode::none)
          input.gradient_rows = array(shapes_.inputs[i], backward_time);
      }
      inputs_.push_back(input);
    }
    const Value& y = builder.value(node.y);
    y_ = {y.layout, y.data};
    dy_ = {y.gradient_layout, y.gradient};
    y_rows_ = array(shapes_.y, time);
    forward_workspace_ = add(memory_.forward, time, time);
    saved_ = add(memory_.saved, time, builder.backward ? backward_time : time);
    if (!builder.backward) return;
    if (op.reads_output()) {
      builder.keep(node.y);
      y_backward_rows_ = array(shapes_.y, backward_time);
    }
    dy_rows_ = array(shapes_.y, backward_time);
    backward_workspace_ = add(memory_.backward, backward_time, backward_time);
  }

  void forward(const Run<T>& run, BlockRange) const override {
    OperatorArrays arrays = this->arrays(run);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const Input& input = inputs_[i];
      if (input.value < 0) continue;
      if (input.stored) {
        arrays.inputs[i] = run.stored[static_cast<std::size_t>(input.value)];
      } else {
        from_blocks(input.blocks.layout, run.at(input.blocks.buffer), run.at(input.rows));
        arrays.inputs[i] = run.at(input.rows);
      }
    }
    T* const y = run.at(y_rows_);
    arrays.y = y;
    arrays.workspace = bytes_at(run, forward_workspace_);
    at_path(node_.path, [&] { node_.op->forward(shapes_, *node_.attributes, kType<T>, arrays); });
    to_blocks(y_.layout, y, run.at(y_.buffer));
  }

  void backward(const Run<T>& run, BlockRange) const override {
    OperatorArrays arrays = this->arrays(run);
    const LibraryOperator& op = *node_.op;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const Input& input = inputs_[i];
      if (input.value < 0) continue;
      if (op.reads_inputs() && input.stored) {
        arrays.inputs[i] = run.stored[static_cast<std::size_t>(input.value)];
      } else if (op.reads_inputs()) {
        from_blocks(input.blocks.layout, run.at(input.blocks.buffer), run.at(input.backward_rows));
        arrays.inputs[i] = run.at(input.backward_rows);
      }
      if (modes_[i] != GradientMode::none && op.has_gradient(i))
        arrays.gradients[i] = run.at(input.gradient_rows);
    }
    if (op.reads_output()) {
      from_blocks(y_.layout, run.at(y_.buffer), run.at(y_backward_rows_));
      arrays.y = run.at(y_backward_rows_);
    }
    from_blocks(dy_.layout, run.at(dy_.buffer), run.at(dy_rows_));
    arrays.dy = run.at(dy_rows_);
    arrays.workspace = bytes_at(run, backward_workspace_);
    if (op.has_backward())
      at_path(node_.path, [&] { op.backward(shapes_, *node_.attributes, kType<T>, arrays); });
    for (std::size_t i = 0; i < inputs_.size(); ++i) pass_on(run, i);
  }

  StageReport report() const override {
    return {message(node_.op->name(), " (", node_.op->library(), ", on arrays (N, ...))"), flops_,
            0};
  }

 private:
  struct Input {
    int value = -1;
    bool stored = false;
    Lying blocks, gradient_blocks;
    int rows = -1, backward_rows = -1, gradient_rows = -1;
  };

  OperatorArrays arrays(const Run<T>& run) const {
    OperatorArrays arrays;
    arrays.saved = bytes_at(run, saved_);
    arrays.random = {run.seed, run.step, node_.ordinal, run.first_sample, 0};
    return arrays;
  }
  static void* bytes_at(const Run<T>& run, int buffer) {
    return buffer < 0 ? nullptr : run.at(buffer);
  }

  // The gradient of an input, from the operator's array to where it belongs.
  void pass_on(const Run<T>& run, std::size_t i) const {
    const Input& input = inputs_[i];
    if (input.value < 0 || modes_[i] == GradientMode::none) return;
    const std::int64_t count = shapes_.inputs[i].count();
    T* const rows = run.at(input.gradient_rows);
    if (!node_.op->has_gradient(i)) std::fill(rows, rows + count, T(0));
    const bool add = modes_[i] == GradientMode::add;
    if (input.stored) {
      const ParameterGradient<T> gradient(run, input.value, add);
      T* const memory = gradient.memory();
      if (!gradient.updates())
        for (std::int64_t k = 0; k < count; ++k)
          memory[k] = gradient.add() ? memory[k] + rows[k] : rows[k];
      gradient.done(0, count, rows);
      return;
    }
    const Layout& layout = input.gradient_blocks.layout;
    T* const blocks = run.at(input.gradient_blocks.buffer);
    if (!add) return to_blocks(layout, rows, blocks);
    const std::int64_t features = layout.features(), pixels = layout.pixels();
    parallel_for(layout.samples, features * 2, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n)
        for (std::int64_t f = 0; f < features; ++f)
          blocks[n / layout.lanes * layout.block() + f / pixels * layout.plane() +
                 f % pixels * layout.lanes + n % layout.lanes] += rows[n * features + f];
    });
  }

  const LibraryNode node_;
  const std::vector<GradientMode> modes_;
  OperatorShapes shapes_;
  OperatorMemory memory_;
  std::int64_t flops_ = 0;
  std::vector<Input> inputs_;
  Lying y_, dy_;
  int y_rows_ = -1, y_backward_rows_ = -1, dy_rows_ = -1;
  int forward_workspace_ = -1, backward_workspace_ = -1, saved_ = -1;
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_library_stage(Builder<T>& builder, const LibraryNode& node,
                                             std::vector<GradientMode> modes) {
  if (node.on_blocks) return std::make_unique<BlockStage<T>>(builder, node, std::move(modes));
  return std::make_unique<ArrayStage<T>>(builder, node, std::move(modes));
}
template std::unique_ptr<Stage<float>> make_library_stage(Builder<float>&, const LibraryNode&,
                                                          std::vector<GradientMode>);
template std::unique_ptr<Stage<double>> make_library_stage(Builder<double>&, const LibraryNode&,
                                                           std::vector<GradientMode>);

}  // namespace pynn
