// Convolution as products with tables of offsets: nothing is copied. Pixels that see the same taps
// of the kernel form a class, so that no tap outside the image is ever multiplied.
#include "plan/conv2d_stage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "plan/kernel_columns.h"
#include "plan/products.h"
#include "plan/rows.h"
#include "runtime/scratch.h"

namespace pynn {

namespace {

// Whether the image of y is all that a kernel on a pixel of x could reach ("full" padding).
bool every_pixel_sees_all_taps(const Window& w) {
  return w.stride_h == 1 && w.stride_w == 1 && w.dilation_h == 1 && w.dilation_w == 1 &&
         w.top == w.KH - 1 && w.left == w.KW - 1 && w.OH == w.H + w.KH - 1 &&
         w.OW == w.W + w.KW - 1;
}

}  // namespace

void add_halo(const Conv2dNode& node, Layout& x) {
  const Window& w = node.shape.window;
  if (KernelColumns::suits(node.shape) && every_pixel_sees_all_taps(w)) return;
  const auto beyond = [](std::int64_t positions, std::int64_t stride, std::int64_t before,
                         std::int64_t taps, std::int64_t dilation, std::int64_t size) {
    return std::max<std::int64_t>(
        (positions - 1) * stride - before + (taps - 1) * dilation - (size - 1), 0);
  };
  x.top = std::max(x.top, w.top);
  x.left = std::max(x.left, w.left);
  x.bottom = std::max(x.bottom, beyond(w.OH, w.stride_h, w.top, w.KH, w.dilation_h, w.H));
  x.right = std::max(x.right, beyond(w.OW, w.stride_w, w.left, w.KW, w.dilation_w, w.W));
}

namespace {

using Taps = std::vector<std::int64_t>;

struct PixelClass {
  std::vector<std::int32_t> a_offsets, b_offsets;
  std::vector<std::int64_t> b_columns, c_columns;
};

struct Piece {
  std::size_t pixel_class;
  std::int64_t begin, end;  // pixels of the class
};

// A product for every pixel of an image; a strip is a unit of work.
struct Sweep {
  std::int64_t rows = 0, a_row = 0;
  std::vector<PixelClass> classes;
  std::vector<std::vector<Piece>> strips;
  std::int64_t flops = 0;  // of one image and group, for 16 samples
};

// Cuts the pixels into strips of about equal work, at whole tiles.
void cut(Sweep& sweep, std::int64_t strips, std::int64_t tile) {
  std::int64_t total = 0;
  for (const PixelClass& c : sweep.classes)
    total += static_cast<std::int64_t>(c.b_columns.size() * (c.a_offsets.size() + 2));
  sweep.flops = 2 * total * sweep.rows * kBlockLanes;
  sweep.strips.assign(1, {});
  std::int64_t done = 0;
  for (std::size_t i = 0; i < sweep.classes.size(); ++i) {
    const PixelClass& c = sweep.classes[i];
    const auto pixels = static_cast<std::int64_t>(c.b_columns.size());
    const auto cost = static_cast<std::int64_t>(c.a_offsets.size()) + 2;
    for (std::int64_t begin = 0; begin < pixels;) {
      const auto strip = static_cast<std::int64_t>(sweep.strips.size());
      const std::int64_t room = total * strip / strips - done;
      std::int64_t count = strip == strips ? pixels - begin : room / cost / tile * tile;
      count = std::min(std::max(count, std::min(tile, pixels - begin)), pixels - begin);
      sweep.strips.back().push_back({i, begin, begin + count});
      begin += count;
      done += count * cost;
      if (done >= total * strip / strips && strip < strips) sweep.strips.emplace_back();
    }
  }
  if (sweep.strips.back().empty()) sweep.strips.pop_back();
}

Taps range(std::int64_t count) {
  Taps taps(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) taps[static_cast<std::size_t>(i)] = i;
  return taps;
}

// Taps of the kernel that see the image from an output position.
Taps forward_taps(std::int64_t position, std::int64_t stride, std::int64_t before,
                  std::int64_t count, std::int64_t dilation, std::int64_t size) {
  Taps taps;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = position * stride - before + k * dilation;
    if (at >= 0 && at < size) taps.push_back(k);
  }
  return taps;
}

// Taps through which a pixel reaches an output position.
Taps backward_taps(std::int64_t pixel, std::int64_t stride, std::int64_t before, std::int64_t count,
                   std::int64_t dilation, std::int64_t positions) {
  Taps taps;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = pixel + before - k * dilation;
    if (at >= 0 && at % stride == 0 && at / stride < positions) taps.push_back(k);
  }
  return taps;
}

std::int64_t strips_of(const Sweep& sweep, const Layout& from, const Layout& to,
                       std::int64_t groups, std::int64_t element_bytes) {
  constexpr std::int64_t kUnits = 16;               // so that threads have about equal work
  constexpr std::int64_t kCacheBytes = 384 * 1024;  // of what a strip reads, and of what it writes
  std::int64_t pixels = 0;
  for (const PixelClass& c : sweep.classes) pixels += static_cast<std::int64_t>(c.b_columns.size());
  const std::int64_t bytes = std::max(from.block(), to.block()) / groups * element_bytes;
  const std::int64_t wanted =
      std::max(kUnits / std::max<std::int64_t>(to.blocks() * groups, 1), bytes / kCacheBytes);
  return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(pixels / 16, 1));
}

Sweep forward_sweep(const Conv2dShape& s, const Layout& x, const Layout& y, std::int64_t tile,
                    std::int64_t element_bytes) {
  const Window& w = s.window;
  Sweep sweep;
  const std::int64_t channels = s.C / s.groups;
  sweep.rows = s.O / s.groups;
  sweep.a_row = channels * w.KH * w.KW;
  std::int64_t seen = 0;
  for (std::int64_t oh = 0; oh < w.OH; ++oh)
    for (std::int64_t ow = 0; ow < w.OW; ++ow)
      seen += static_cast<std::int64_t>(
          forward_taps(oh, w.stride_h, w.top, w.KH, w.dilation_h, w.H).size() *
          forward_taps(ow, w.stride_w, w.left, w.KW, w.dilation_w, w.W).size());
  // Where few taps fall into the halo, multiplying its zeros costs less than many small classes.
  const bool whole =
      static_cast<double>(seen) > 0.85 * static_cast<double>(w.OH * w.OW * w.KH * w.KW);
  std::map<std::pair<Taps, Taps>, std::size_t> known;
  for (std::int64_t oh = 0; oh < w.OH; ++oh)
    for (std::int64_t ow = 0; ow < w.OW; ++ow) {
      const Taps rows =
          whole ? range(w.KH) : forward_taps(oh, w.stride_h, w.top, w.KH, w.dilation_h, w.H);
      const Taps columns =
          whole ? range(w.KW) : forward_taps(ow, w.stride_w, w.left, w.KW, w.dilation_w, w.W);
      const auto [entry, fresh] = known.try_emplace({rows, columns}, sweep.classes.size());
      if (fresh) {
        PixelClass c;
        for (std::int64_t channel = 0; channel < channels; ++channel)
          for (const std::int64_t kh : rows)
            for (const std::int64_t kw : columns) {
              c.a_offsets.push_back(static_cast<std::int32_t>((channel * w.KH + kh) * w.KW + kw));
              c.b_offsets.push_back(static_cast<std::int32_t>(
                  channel * x.plane() + (kh - rows[0]) * w.dilation_h * x.row() +
                  (kw - columns[0]) * w.dilation_w * kBlockLanes));
            }
        sweep.classes.push_back(std::move(c));
      }
      PixelClass& c = sweep.classes[entry->second];
      const bool empty = rows.empty() || columns.empty();
      c.b_columns.push_back(empty ? 0
                                  : x.at(oh * w.stride_h - w.top + rows[0] * w.dilation_h,
                                         ow * w.stride_w - w.left + columns[0] * w.dilation_w));
      c.c_columns.push_back(y.at(oh, ow));
    }
  cut(sweep, strips_of(sweep, x, y, s.groups, element_bytes), tile);
  return sweep;
}

Sweep backward_sweep(const Conv2dShape& s, const Layout& dx, const Layout& dy, std::int64_t tile,
                     std::int64_t element_bytes) {
  const Window& w = s.window;
  Sweep sweep;
  const std::int64_t outputs = s.O / s.groups;
  sweep.rows = s.C / s.groups;
  sweep.a_row = outputs * w.KH * w.KW;
  std::map<std::pair<Taps, Taps>, std::size_t> known;
  for (std::int64_t h = 0; h < w.H; ++h)
    for (std::int64_t v = 0; v < w.W; ++v) {
      const Taps rows = backward_taps(h, w.stride_h, w.top, w.KH, w.dilation_h, w.OH);
      const Taps columns = backward_taps(v, w.stride_w, w.left, w.KW, w.dilation_w, w.OW);
      const auto [entry, fresh] = known.try_emplace({rows, columns}, sweep.classes.size());
      if (fresh) {
        PixelClass c;
        for (std::int64_t o = 0; o < outputs; ++o)
          for (const std::int64_t kh : rows)
            for (const std::int64_t kw : columns) {
              c.a_offsets.push_back(static_cast<std::int32_t>((o * w.KH + kh) * w.KW + kw));
              c.b_offsets.push_back(static_cast<std::int32_t>(
                  o * dy.plane() + (rows[0] - kh) * w.dilation_h / w.stride_h * dy.row() +
                  (columns[0] - kw) * w.dilation_w / w.stride_w * kBlockLanes));
            }
        sweep.classes.push_back(std::move(c));
      }
      PixelClass& c = sweep.classes[entry->second];
      const bool empty = rows.empty() || columns.empty();
      c.b_columns.push_back(empty ? 0
                                  : dy.at((h + w.top - rows[0] * w.dilation_h) / w.stride_h,
                                          (v + w.left - columns[0] * w.dilation_w) / w.stride_w));
      c.c_columns.push_back(dx.at(h, v));
    }
  cut(sweep, strips_of(sweep, dy, dx, s.groups, element_bytes), tile);
  return sweep;
}

template <typename T>
class Conv2dStage final : public Stage<T> {
 public:
  Conv2dStage(Builder<T>& builder, const Conv2dNode& node, GradientMode dx, bool dw_again,
              bool db_again)
      : node_(node),
        shape_(node.shape),
        x_(builder.value(node.x).layout),
        y_(builder.value(node.y).layout),
        dx_(builder.value(node.x).gradient_layout),
        dy_(builder.value(node.y).gradient_layout),
        x_data_(builder.value(node.x).data),
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
    const std::int64_t tile = isa_table<T>().outer_product.columns;
    if (KernelColumns::suits(shape_)) {
      kernel_columns_.emplace(shape_, x_, y_);
      parts_ = builder.arena.add_blocks(
          y_.blocks(), kernel_columns_->part_elements() * static_cast<std::int64_t>(sizeof(T)),
          builder.segment, builder.segment);
    } else {
      forward_ = forward_sweep(shape_, x_, y_, tile, sizeof(T));
    }
    if (!builder.backward) return;
    if (node.relu) builder.keep(node.y);
    if (mask_dx_) builder.keep(node.x);
    if (dx_mode_ != GradientMode::none) {
      backward_ = backward_sweep(shape_, dx_, dy_, tile, sizeof(T));
      transposed_ = builder.backward_scratch(weight_count());
    }
    if (db_) bias_shards_ = builder.backward_scratch(dy_.blocks() * shape_.O);
    if (dw_) {
      shards_ = builder.backward_scratch(dy_.blocks() * weight_count());
      builder.keep(node.x);
      const Window& w = shape_.window;
      if (every_pixel_sees_all_taps(w)) {
        for (std::int64_t kh = 0; kh < w.KH; ++kh)
          for (std::int64_t kw = 0; kw < w.KW; ++kw)
            shifts_.push_back(static_cast<std::int32_t>(dy_.at(w.top - kh, w.left - kw)));
        positions_ = multiples<std::int32_t>(w.W, kBlockLanes);
        return;
      }
      for (std::int64_t c = 0; c < shape_.C / shape_.groups; ++c)
        for (std::int64_t kh = 0; kh < w.KH; ++kh)
          for (std::int64_t kw = 0; kw < w.KW; ++kw)
            taps_.push_back(static_cast<std::int32_t>(
                c * x_.plane() + x_.at(kh * w.dilation_h - w.top, kw * w.dilation_w - w.left)));
      for (std::int64_t oh = 0; oh < w.OH; ++oh)
        for (std::int64_t ow = 0; ow < w.OW; ++ow)
          positions_.push_back(static_cast<std::int32_t>(oh * w.stride_h * x_.row() +
                                                         ow * w.stride_w * kBlockLanes));
    }
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    if (kernel_columns_) return forward_by_columns(run, blocks);
    OuterProduct<T> product{};
    product.bias = node_.b < 0 ? nullptr : run.stored[static_cast<std::size_t>(node_.b)];
    product.relu = node_.relu;
    const std::int64_t channels = shape_.C / shape_.groups;
    sweep(blocks, forward_, product, weights(run), shape_.O / shape_.groups * forward_.a_row,
          run.at(x_data_, blocks), x_, channels * x_.plane(), run.at(y_data_, blocks), y_);
  }

  void begin_backward(const Run<T>& run) const override {
    if (dx_mode_ != GradientMode::none) transpose_weights(weights(run), run.at(transposed_));
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    T* const dy = run.at(dy_data_, blocks);
    if (node_.relu && !masked_) {
      const T* const y = run.at(y_data_, blocks);
      parallel_rows<2>({&dy_, &y_}, blocks, 2, [&](std::int64_t count, const auto& at) {
        isa_table<T>().relu.backward(count, dy + at[0], y + at[1], dy + at[0]);
      });
    }
    if (dw_ && shifts_.empty()) weight_gradients(run, blocks, dy);
    if (dw_ && !shifts_.empty()) weight_gradients_by_shifts(run, blocks, dy);
    if (db_) {
      for (std::int64_t block = blocks.begin; block < blocks.end; ++block)
        isa_table<T>().dot_product.sum_rows(shape_.O, dy_.plane(), 1, 0, dy_.pixels(),
                                            dy + block * dy_.block(), false,
                                            run.at(bias_shards_) + block * shape_.O);
    }
    if (dx_mode_ != GradientMode::none) {
      OuterProduct<T> product{};
      product.accumulate = dx_mode_ == GradientMode::add;
      product.mask = mask_dx_ ? run.at(x_data_, blocks) : nullptr;
      const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
      sweep(blocks, backward_, product, run.at(transposed_),
            outputs * channels * shape_.window.KH * shape_.window.KW, dy, dy_,
            outputs * dy_.plane(), run.at(dx_data_, blocks), dx_);
    }
  }

  void finish_backward(const Run<T>& run) const override {
    if (dw_)
      combine(weight_count(), run.at(shards_), ParameterGradient<T>(run, node_.w, dw_again_));
    if (db_) combine(shape_.O, run.at(bias_shards_), ParameterGradient<T>(run, node_.b, db_again_));
  }

  StageReport report() const override {
    const Window& w = shape_.window;
    const std::int64_t flops =
        y_.blocks() * (kernel_columns_ ? kernel_columns_->flops() : forward_.flops * shape_.groups);
    StageReport report{message("conv2d ", w.KH, " x ", w.KW, ", ", shape_.C, " -> ", shape_.O,
                               " channels", node_.relu ? " + relu" : ""),
                       flops, 0};
    if (dx_mode_ != GradientMode::none)
      report.backward_flops += backward_.flops * y_.blocks() * shape_.groups;
    if (dw_)
      report.backward_flops += 2 * weight_count() * (shifts_.empty() ? w.OH * w.OW : w.H * w.W) *
                               y_.blocks() * kBlockLanes;
    return report;
  }

 private:
  const T* weights(const Run<T>& run) const {
    return run.stored[static_cast<std::size_t>(node_.w)];
  }

  void forward_by_columns(const Run<T>& run, BlockRange blocks) const {
    const KernelColumns& columns = *kernel_columns_;
    const T* const x = run.at(x_data_, blocks);
    T* const y = run.at(y_data_, blocks);
    T* const parts = run.at(parts_, blocks);
    const Window& w = shape_.window;
    const std::int64_t tile = isa_table<T>().outer_product.columns;
    const std::int64_t tiles = (w.W + tile - 1) / tile, part = columns.part_elements();
    parallel_for(blocks.count() * shape_.O * tiles, columns.flops() / (shape_.O * tiles),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t block = blocks.begin + unit / tiles / shape_.O;
                     const std::int64_t i = unit % tiles;
                     columns.multiply(unit / tiles % shape_.O, w.W * i / tiles,
                                      w.W * (i + 1) / tiles, weights(run), x + block * x_.block(),
                                      parts + block * part);
                   }
                 });
    const T* const bias = node_.b < 0 ? nullptr : run.stored[static_cast<std::size_t>(node_.b)];
    parallel_for(blocks.count() * shape_.O * w.OH, w.OW * kBlockLanes * (w.KW + 2),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t block = blocks.begin + unit / w.OH / shape_.O;
                     const std::int64_t output = unit / w.OH % shape_.O, h = unit % w.OH;
                     columns.add(output, h, h + 1, parts + block * part, bias ? bias[output] : T(0),
                                 node_.relu, y + block * y_.block());
                   }
                 });
  }

  // One product for each block of samples, group and strip.
  void sweep(BlockRange blocks, const Sweep& sweep, const OuterProduct<T>& start, const T* a,
             std::int64_t a_group, const T* b, const Layout& b_layout, std::int64_t b_group, T* c,
             const Layout& c_layout) const {
    const auto strips = static_cast<std::int64_t>(sweep.strips.size());
    const std::int64_t units = blocks.count() * shape_.groups * strips;
    parallel_for(
        units, sweep.flops / std::max<std::int64_t>(strips, 1),
        [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t unit = begin; unit < end; ++unit) {
            const std::int64_t block = blocks.begin + unit / strips / shape_.groups;
            const std::int64_t group = unit / strips % shape_.groups;
            OuterProduct<T> product = start;
            product.rows = sweep.rows;
            product.a = a + group * a_group;
            product.a_row = sweep.a_row;
            product.b = b + block * b_layout.block() + group * b_group;
            product.c = c + block * c_layout.block() + group * sweep.rows * c_layout.plane();
            product.c_row = c_layout.plane();
            if (product.bias) product.bias += group * sweep.rows;
            if (product.mask) product.mask += product.c - c;
            for (const Piece& piece : sweep.strips[static_cast<std::size_t>(unit % strips)]) {
              const PixelClass& c_class = sweep.classes[piece.pixel_class];
              product.depth = static_cast<std::int64_t>(c_class.a_offsets.size());
              product.a_offsets = c_class.a_offsets.data();
              product.b_offsets = c_class.b_offsets.data();
              product.columns = piece.end - piece.begin;
              product.depth_block =
                  depth_block(product.rows, product.depth, product.columns, b_layout, c_layout);
              product.b_columns = c_class.b_columns.data() + piece.begin;
              product.c_columns = c_class.c_columns.data() + piece.begin;
              isa_table<T>().outer_product.run(product);
            }
          }
        });
  }

  // Of k, so many that what is read of B stays in the second-level cache, while all rows of A pass;
  // but C is read and written again for each block of k. A tile of few rows reads as much of B as
  // one of many: what it reads of a few channels stays in the first-level cache.
  std::int64_t depth_block(std::int64_t rows, std::int64_t depth, std::int64_t pixels,
                           const Layout& from, const Layout& to) const {
    constexpr std::int64_t kMost = 896, kCacheBytes = 512 * 1024;
    const Window& w = shape_.window;
    std::int64_t most = w.KH * w.KW;
    if (rows > 2) {
      const std::int64_t lines =
          std::min(((pixels - 1) / to.width + 2) * from.height / to.height + w.KH * w.dilation_h,
                   from.height);
      const std::int64_t channel = lines * from.row() * static_cast<std::int64_t>(sizeof(T));
      most = std::clamp(kCacheBytes / channel * most, std::int64_t{128}, kMost);
    }
    const std::int64_t parts = std::max<std::int64_t>((depth + most - 1) / most, 1);
    return std::max<std::int64_t>((depth + parts - 1) / parts, 1);
  }

  std::int64_t weight_count() const {
    return shape_.O * (shape_.C / shape_.groups) * shape_.window.KH * shape_.window.KW;
  }

  // For each group (channels, outputs, taps), so that the gradient of x reads rows, too.
  void transpose_weights(const T* w, T* to) const {
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    const std::int64_t taps = shape_.window.KH * shape_.window.KW;
    parallel_for(shape_.groups * channels, outputs * taps * 2,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i)
                     for (std::int64_t o = 0; o < outputs; ++o) {
                       const T* const from =
                           w + ((i / channels * outputs + o) * channels + i % channels) * taps;
                       std::copy(from, from + taps, to + (i * outputs + o) * taps);
                     }
                 });
  }

  // A unit of work sums the gradients of some outputs and columns. Its sums stay in the
  // second-level cache while it walks through the images of both, which other units read again:
  // `rows` outputs and as many columns as then fit read the least in all.
  struct WeightUnits {
    std::int64_t rows, panels;  // how many units, by outputs and by columns
  };
  WeightUnits weight_units(std::int64_t outputs, std::int64_t columns) const {
    const auto& kernels = isa_table<T>().dot_product;
    constexpr std::int64_t kSumBytes = 256 * 1024;
    constexpr std::int64_t kUnits = 16;  // so that threads have about equal work
    const std::int64_t sums = kSumBytes / static_cast<std::int64_t>(sizeof(T)) / kernels.lanes;
    const std::int64_t taps = shape_.window.KH * shape_.window.KW;
    const double balanced =
        std::sqrt(static_cast<double>(sums * x_.pixels()) /
                  static_cast<double>(std::max<std::int64_t>(taps * dy_.pixels(), 1)));
    const std::int64_t column_tiles = (columns + kernels.columns - 1) / kernels.columns;
    std::int64_t tiles = static_cast<std::int64_t>(balanced) / kernels.rows + 1;
    for (;; --tiles) {
      const std::int64_t rows = std::clamp<std::int64_t>(outputs, 1, tiles * kernels.rows);
      const WeightUnits units{(outputs + rows - 1) / rows,
                              std::min(rows * columns / sums + 1, column_tiles)};
      if (tiles == 1 || dy_.blocks() * shape_.groups * units.rows * units.panels >= kUnits)
        return units;
    }
  }

  // The weight gradient of each of these blocks, in its shard.
  void weight_gradients(const Run<T>& run, BlockRange blocks, const T* dy) const {
    const auto& kernels = isa_table<T>().dot_product;
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    const auto columns = static_cast<std::int64_t>(taps_.size());
    const auto positions = dy_.pixels();
    const WeightUnits units = weight_units(outputs, columns);
    const std::int64_t column_tiles = (columns + kernels.columns - 1) / kernels.columns;
    constexpr std::int64_t kPositions = 64;  // whose gradients, of a tile's rows, stay in the first
    const std::int64_t strips = (positions + kPositions - 1) / kPositions;
    const T* const x = run.at(x_data_, blocks);
    T* const shards = run.at(shards_);
    const std::int64_t tasks = shape_.groups * units.rows * units.panels;
    const std::int64_t work =
        2 * weight_count() * positions * kBlockLanes / std::max<std::int64_t>(tasks, 1);
    parallel_for(blocks.count() * tasks, work, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t block = blocks.begin + unit / tasks, task = unit % tasks;
        const std::int64_t group = task / units.panels / units.rows;
        const std::int64_t part = task / units.panels % units.rows, panel = task % units.panels;
        const std::int64_t row = outputs * part / units.rows, first = group * outputs + row;
        const auto column_of = [&](std::int64_t number) {
          return columns * (column_tiles * number / units.panels) / column_tiles;
        };
        const std::int64_t column = column_of(panel), end_column = column_of(panel + 1);
        DotProduct<T> product;
        product.rows = outputs * (part + 1) / units.rows - row;
        product.columns = end_column - column;
        product.a_row = dy_.plane();
        product.b = x + block * x_.block() + group * channels * x_.plane();
        product.b_columns = taps_.data() + column;
        const std::int64_t sums = product.rows * product.columns * kernels.lanes;
        product.sums = scratch<T>(sums);
        std::fill(product.sums, product.sums + sums, T(0));
        for (std::int64_t strip = 0; strip < strips; ++strip) {
          const std::int64_t p = positions * strip / strips;
          product.depth = positions * (strip + 1) / strips - p;
          product.a = dy + block * dy_.block() + first * dy_.plane() + p * kBlockLanes;
          product.b_offsets = positions_.data() + p;
          kernels.run(product);
        }
        for (std::int64_t r = 0; r < product.rows; ++r)
          kernels.sum_lanes(product.columns, product.sums + r * product.columns * kernels.lanes,
                            false,
                            shards + block * weight_count() + (first + r) * columns + column);
      }
    });
  }

  // The same where every pixel of x sees all taps: sums over the pixels of x, not of y, which see
  // the halo as well.
  void weight_gradients_by_shifts(const Run<T>& run, BlockRange blocks, const T* dy) const {
    const auto& kernels = isa_table<T>().dot_product;
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    const auto taps = static_cast<std::int64_t>(shifts_.size());
    const std::int64_t row_tiles = (channels + kernels.rows - 1) / kernels.rows;
    const T* const x = run.at(x_data_, blocks);
    T* const shards = run.at(shards_);
    const std::int64_t tasks = shape_.O * row_tiles;
    parallel_for(blocks.count() * tasks, 2 * kernels.rows * taps * x_.pixels() * kBlockLanes,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t block = blocks.begin + unit / tasks, task = unit % tasks;
                     const std::int64_t output = task / row_tiles, tile = task % row_tiles;
                     const std::int64_t channel = channels * tile / row_tiles;
                     DotProduct<T> product;
                     product.rows = channels * (tile + 1) / row_tiles - channel;
                     product.columns = taps;
                     product.depth = x_.width;
                     product.a_row = x_.plane();
                     product.b_columns = shifts_.data();
                     product.b_offsets = positions_.data();
                     const std::int64_t sums = product.rows * taps * kernels.lanes;
                     product.sums = scratch<T>(sums);
                     std::fill(product.sums, product.sums + sums, T(0));
                     for (std::int64_t h = 0; h < x_.height; ++h) {
                       product.a = x + block * x_.block() +
                                   (output / outputs * channels + channel) * x_.plane() +
                                   x_.at(h, 0);
                       product.b = dy + block * dy_.block() + output * dy_.plane() + h * dy_.row();
                       kernels.run(product);
                     }
                     kernels.sum_lanes(
                         product.rows * taps, product.sums, false,
                         shards + block * weight_count() + (output * channels + channel) * taps);
                   }
                 });
  }

  // gradient = the shards, added in the order of the blocks.
  void combine(std::int64_t size, const T* shards, const ParameterGradient<T>& gradient) const {
    constexpr std::int64_t kPiece = 1024;
    parallel_for((size + kPiece - 1) / kPiece, kPiece * dy_.blocks() * 2,
                 [&](std::int64_t begin, std::int64_t end) {
                   T sums[kPiece];
                   for (std::int64_t piece = begin; piece < end; ++piece) {
                     const std::int64_t first = piece * kPiece;
                     const std::int64_t count = std::min(kPiece, size - first);
                     T* const to = gradient.updates() ? sums : gradient.memory() + first;
                     if (!gradient.add()) std::fill(to, to + count, T(0));
                     for (std::int64_t block = 0; block < dy_.blocks(); ++block) {
                       const T* const shard = shards + block * size + first;
                       for (std::int64_t i = 0; i < count; ++i) to[i] += shard[i];
                     }
                     gradient.done(first, count, to);
                   }
                 });
  }

  const Conv2dNode node_;
  const Conv2dShape shape_;
  const Layout x_, y_, dx_, dy_;
  const int x_data_, y_data_, dx_data_, dy_data_;
  const GradientMode dx_mode_;
  const bool dw_, db_, dw_again_, db_again_;
  const bool masked_, mask_dx_;         // by relu: dy already is, dx is to be
  int shards_ = -1, bias_shards_ = -1;  // gradients of the parameters, of each block
  int transposed_ = -1;                 // weights
  Sweep forward_, backward_;
  std::optional<KernelColumns> kernel_columns_;  // instead of forward_
  int parts_ = -1;
  std::vector<std::int32_t> taps_, positions_;
  std::vector<std::int32_t> shifts_;  // of dy, by tap; empty: the gradient sums over pixels of y
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                            GradientMode dx, bool dw_again, bool db_again) {
  return std::make_unique<Conv2dStage<T>>(builder, node, dx, dw_again, db_again);
}
template std::unique_ptr<Stage<float>> make_conv2d_stage(Builder<float>&, const Conv2dNode&,
                                                         GradientMode, bool, bool);
template std::unique_ptr<Stage<double>> make_conv2d_stage(Builder<double>&, const Conv2dNode&,
                                                          GradientMode, bool, bool);

}  // namespace pynn
