#include "plan/conv2d_stage.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "plan/band_pool.h"
#include "plan/fold.h"
#include "plan/kernel_columns.h"
#include "plan/products.h"
#include "plan/sweep.h"
#include "plan/winograd.h"
#include "runtime/scratch.h"
#include "threaded/products.h"

namespace pynn {

namespace {

// Whether the image of y is all that a kernel on a pixel of x could reach ("full" padding), of a
// kernel that reaches beyond its pixel. Rows of y beyond that of bands of rows are there anyway.
bool every_pixel_sees_all_taps(const Window& w, bool in_bands) {
  return w.KH * w.KW > 1 && w.stride_h == 1 && w.stride_w == 1 && w.dilation_h == 1 &&
         w.dilation_w == 1 && w.top == w.KH - 1 && w.left == w.KW - 1 &&
         (in_bands || w.OH == w.H + w.KH - 1) && w.OW == w.W + w.KW - 1;
}

}  // namespace

void add_halo(const Conv2dShape& shape, Layout& x) {
  const Window& w = shape.window;
  if (KernelColumns::suits(shape) && every_pixel_sees_all_taps(w, false)) return;
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

bool has_small_halo(const Conv2dShape& shape) {
  constexpr std::int64_t kMore = 8;
  Layout x;
  add_halo(shape, x);
  return std::max(x.top, x.bottom) <= shape.window.H + kMore &&
         std::max(x.left, x.right) <= shape.window.W + kMore;
}

bool can_pool(const Conv2dShape& shape, const Window& pool, bool winograd,
              std::int64_t element_bytes) {
  // Of longer sums, a pool takes too little time for what it costs to share bands among threads.
  constexpr std::int64_t kMostDepth = 512;
  const std::int64_t depth = shape.C / shape.groups * shape.window.KH * shape.window.KW;
  return depth <= kMostDepth && pools_in_bands(pool, shape.O, element_bytes) &&
         !KernelColumns::suits(shape) && !(winograd && suits_winograd(shape, Direction::forward));
}

namespace {

template <typename T>
class Conv2dStage final : public Stage<T> {
 public:
  Conv2dStage(Builder<T>& builder, const Conv2dNode& node, const LayerGradients& gradients)
      : shape_(node.shape),
        layer_(builder, node, gradients),
        unfolded_(static_cast<const Conv2dStage*>(builder.unfolded)),
        blocks_(builder.blocks),
        shards_in_all_(blocks_ + (builder.is_folded ? 1 : 0)),
        first_shard_(unfolded_ ? unfolded_->blocks_ : 0) {
    const std::int64_t tile = isa_table<T>().outer_product.columns;
    if (node.pool) pool_.emplace(builder, *node.pool, node.relu, layer_.y);
    if (KernelColumns::suits(shape_)) {
      kernel_columns_.emplace(shape_, layer_.x, layer_.y);
      parts_ = builder.arena.add_blocks(
          blocks_, kernel_columns_->part_elements() * static_cast<std::int64_t>(sizeof(T)),
          builder.segment, builder.segment);
    } else if (builder.winograd && suits_winograd(shape_, Direction::forward)) {
      winograd_forward_.emplace(shape_, layer_.x, layer_.y, Direction::forward);
      panels_ = builder.forward_scratch(winograd_forward_->weight_elements());
    } else {
      forward_ = forward_sweep(shape_, layer_.x, layer_.y, tile, sizeof(T));
      if (pool_) cut_into_bands(forward_, layer_.y, pool_->layout().height);
      if (unfolded_ ? unfolded_->panels_ >= 0 : reads_far(forward_, layer_.x)) {
        lay_in_panels(forward_, isa_table<T>().outer_product.rows);
        panels_ =
            unfolded_ ? unfolded_->panels_ : builder.forward_scratch(panel_elements(forward_));
      }
    }
    if (!builder.backward) return;
    if (layer_.needs_dx() && builder.winograd && suits_winograd(shape_, Direction::backward)) {
      winograd_backward_.emplace(shape_, layer_.dy, layer_.dx, Direction::backward);
      transposed_ = builder.backward_scratch(winograd_backward_->weight_elements());
    } else if (layer_.needs_dx()) {
      backward_ = backward_sweep(shape_, layer_.dx, layer_.dy, tile, sizeof(T));
      if (unfolded_) {
        lay_in_panels(backward_, unfolded_->backward_.panel_rows);
        transposed_ = unfolded_->transposed_;
      } else {
        lay_in_panels(backward_,
                      reads_far(backward_, layer_.dy) ? isa_table<T>().outer_product.rows : 1);
        transposed_ = builder.backward_scratch(panel_elements(backward_));
      }
    }
    if (layer_.needs_db)
      bias_shards_ =
          unfolded_ ? unfolded_->bias_shards_ : builder.backward_scratch(shards_in_all_ * shape_.O);
    if (layer_.needs_dw) {
      shards_ = unfolded_ ? unfolded_->shards_
                          : builder.backward_scratch(shards_in_all_ * weight_count());
      builder.keep(node.x);
      find_offsets();
    }
    if (!pool_) return;
    by_bands_ =
        !layer_.needs_dx() && !taps_.empty() &&
        weight_units(shape_.O / shape_.groups, static_cast<std::int64_t>(taps_.size())).panels == 1;
    if (!by_bands_)
      image_gradient_ = builder.arena.add_blocks(
          blocks_, layer_.dy.block() * static_cast<std::int64_t>(sizeof(T)),
          builder.backward_time(), builder.backward_time());
  }

  void begin_forward(const Run<T>& run) const override {
    const std::int64_t channels = shape_.C / shape_.groups;
    if (winograd_forward_)
      winograd_forward_->transform(layer_.weights(run), run.at(panels_));
    else if (panels_ >= 0)
      lay_out(forward_, layer_.weights(run), channels * taps(), channels, taps(), run.at(panels_));
  }

  void forward(const Run<T>& run, BlockRange blocks) const override {
    if (kernel_columns_) return forward_by_columns(run, blocks);
    if (winograd_forward_)
      return winograd_forward_->run(blocks, run.at(panels_), run.at(layer_.x_data, blocks),
                                    {layer_.bias(run), false, layer_.relu, nullptr},
                                    run.at(layer_.y_data, blocks));
    OuterProduct<T> product{};
    product.bias = layer_.bias(run);
    product.relu = layer_.relu;
    const T* const weights = panels_ < 0 ? layer_.weights(run) : run.at(panels_);
    const Factors factors{weights, run.at(layer_.x_data, blocks), layer_.x,
                          shape_.C / shape_.groups * layer_.x.plane()};
    if (pool_)
      forward_by_bands(run, blocks, product, factors);
    else
      sweep(blocks, forward_, product, factors, run.at(layer_.y_data, blocks), layer_.y);
  }

  void begin_backward(const Run<T>& run) const override {
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    if (winograd_backward_)
      winograd_backward_->transform(layer_.weights(run), run.at(transposed_));
    else if (layer_.needs_dx())
      lay_out(backward_, layer_.weights(run), taps(), outputs, channels * taps(),
              run.at(transposed_));
  }

  void backward(const Run<T>& run, BlockRange blocks) const override {
    if (by_bands_) return weight_gradients_by_taps(run, blocks, nullptr);
    T* const dy = image_gradient(run, blocks);
    if (layer_.dy.is_folded()) join_bands(layer_.dy, dy);
    if (layer_.needs_dw) weight_gradients(run, blocks, dy);
    if (layer_.needs_db) bias_gradients(run, blocks, dy);
    if (winograd_backward_) {
      winograd_backward_->run(blocks, run.at(transposed_), dy,
                              {nullptr, layer_.adds_dx(), false,
                               layer_.masks_dx ? run.at(layer_.x_data, blocks) : nullptr},
                              run.at(layer_.dx_data, blocks));
    } else if (layer_.needs_dx()) {
      OuterProduct<T> product{};
      product.accumulate = layer_.adds_dx();
      product.mask = layer_.masks_dx ? run.at(layer_.x_data, blocks) : nullptr;
      sweep(blocks, backward_, product,
            {run.at(transposed_), dy, layer_.dy, shape_.O / shape_.groups * layer_.dy.plane()},
            run.at(layer_.dx_data, blocks), layer_.dx);
      if (layer_.dx.is_folded()) join_bands(layer_.dx, run.at(layer_.dx_data, blocks));
    }
  }

  void finish_backward(const Run<T>& run) const override {
    if (layer_.needs_dw) combine(weight_count(), weight_shards(run), layer_.weight_gradient(run));
    if (layer_.needs_db) combine(shape_.O, bias_shards(run), layer_.bias_gradient(run));
  }

  StageReport report() const override {
    const Window& w = shape_.window;
    const std::int64_t flops = blocks_ * (kernel_columns_     ? kernel_columns_->flops()
                                          : winograd_forward_ ? winograd_forward_->flops()
                                                              : forward_.flops * shape_.groups);
    StageReport report{message("conv2d ", w.KH, " x ", w.KW, ", ", shape_.C, " -> ", shape_.O,
                               " channels", winograd_forward_ ? ", Winograd" : "",
                               layer_.relu ? " + relu" : "", pool_ ? " + " + pool_->what() : ""),
                       flops, 0};
    if (layer_.needs_dx())
      report.backward_flops += blocks_ * (winograd_backward_ ? winograd_backward_->flops()
                                                             : backward_.flops * shape_.groups);
    if (layer_.needs_dw)
      report.backward_flops +=
          2 * weight_count() * (shifts_.empty() ? w.OH * w.OW : w.H * w.W) * blocks_ * kBlockLanes;
    return report;
  }

 private:
  void find_offsets() {
    const Window& w = shape_.window;
    if (weights_are_a_matrix()) return;
    if (every_pixel_sees_all_taps(w, layer_.x.is_folded())) {
      for (std::int64_t kh = 0; kh < w.KH; ++kh)
        for (std::int64_t kw = 0; kw < w.KW; ++kw)
          shifts_.push_back(static_cast<std::int32_t>(layer_.dy.at(w.top - kh, w.left - kw)));
      positions_ = multiples<std::int32_t>(w.W, kBlockLanes);
      return;
    }
    for (std::int64_t c = 0; c < shape_.C / shape_.groups; ++c)
      for (std::int64_t kh = 0; kh < w.KH; ++kh)
        for (std::int64_t kw = 0; kw < w.KW; ++kw)
          taps_.push_back(static_cast<std::int32_t>(
              c * layer_.x.plane() +
              layer_.x.at(kh * w.dilation_h - w.top, kw * w.dilation_w - w.left)));
    for (std::int64_t oh = 0; oh < w.OH; ++oh)
      for (std::int64_t ow = 0; ow < w.OW; ++ow)
        positions_.push_back(static_cast<std::int32_t>(oh * w.stride_h * layer_.x.row() +
                                                       ow * w.stride_w * kBlockLanes));
  }

  // What a sweep multiplies: a, and of b the layout and how far its groups are apart.
  struct Factors {
    const T *a, *b;
    const Layout& b_layout;
    std::int64_t b_group;
  };

  // A product of a sweep: rows row ... row + rows of a group.
  struct Unit {
    std::int64_t block, group, strip, row, rows;
  };

  // A product for each block, group and band, which is pooled at once.
  void forward_by_bands(const Run<T>& run, BlockRange blocks, const OuterProduct<T>& start,
                        const Factors& factors) const {
    const std::int64_t plane = pool_->layout().plane();
    each_product(
        blocks, forward_, start, factors, layer_.y, 1,
        [&](const Unit& unit, OuterProduct<T>& product) {
          product.c = scratch<T>(unit.rows * plane) - layer_.y.at(pool_->first_row(unit.strip), 0);
          product.c_row = plane;
        },
        [&](const Unit& unit, const OuterProduct<T>& product) {
          pool_->forward(run, blocks, unit.block, unit.group * forward_.rows + unit.row, unit.rows,
                         unit.strip, product.c + layer_.y.at(pool_->first_row(unit.strip), 0));
        });
  }

  // The gradient of what the convolution gives.
  T* image_gradient(const Run<T>& run, BlockRange blocks) const {
    if (!pool_) return layer_.pass_relu(run, blocks);
    T* const dy = run.at(image_gradient_, blocks);
    pool_->backward(run, blocks, layer_.dy, dy);
    return dy;
  }

  void forward_by_columns(const Run<T>& run, BlockRange blocks) const {
    const KernelColumns& columns = *kernel_columns_;
    const T* const x = run.at(layer_.x_data, blocks);
    T* const y = run.at(layer_.y_data, blocks);
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
                                      w.W * (i + 1) / tiles, layer_.weights(run),
                                      x + block * layer_.x.block(), parts + block * part);
                   }
                 });
    const T* const bias = layer_.bias(run);
    parallel_for(blocks.count() * shape_.O * w.OH, w.OW * kBlockLanes * (w.KW + 2),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t block = blocks.begin + unit / w.OH / shape_.O;
                     const std::int64_t output = unit / w.OH % shape_.O, h = unit % w.OH;
                     columns.add(output, h, h + 1, parts + block * part, bias ? bias[output] : T(0),
                                 layer_.relu, y + block * layer_.y.block());
                   }
                 });
  }

  // All products of a sweep, into an image c.
  void sweep(BlockRange blocks, const Sweep& sweep, const OuterProduct<T>& start,
             const Factors& factors, T* c, const Layout& c_layout) const {
    // Few rows make poor tiles: only panels are shared.
    const std::int64_t panels =
        sweep.panel_rows > 1 ? (sweep.rows + sweep.panel_rows - 1) / sweep.panel_rows : 1;
    each_product(
        blocks, sweep, start, factors, c_layout, panels,
        [&](const Unit& unit, OuterProduct<T>& product) {
          product.c = c + unit.block * c_layout.block() +
                      (unit.group * sweep.rows + unit.row) * c_layout.plane();
          product.c_row = c_layout.plane();
          if (product.mask) product.mask += product.c - c;
        },
        [](const Unit&, const OuterProduct<T>&) {});
  }

  // One product for each block of samples, group and strip; where these are few, or take long, for
  // some of so many panels of it. place(unit, product) says where it is to be written, done(unit,
  // product) is called when it has been. c_layout: of an image of what is written.
  template <typename Place, typename Done>
  void each_product(BlockRange blocks, const Sweep& sweep, const OuterProduct<T>& start,
                    const Factors& factors, const Layout& c_layout, std::int64_t panels,
                    const Place& place, const Done& done) const {
    const auto strips = static_cast<std::int64_t>(sweep.strips.size());
    const std::int64_t products = blocks.count() * shape_.groups * strips;
    const std::int64_t panel_rows = panels > 1 ? sweep.panel_rows : sweep.rows;
    const std::int64_t units = (kUnits + products - 1) / std::max<std::int64_t>(products, 1);
    // The last products are what threads wait for one another at.
    constexpr std::int64_t kMostWork = 1 << 26;
    const std::int64_t fine = sweep.flops / std::max<std::int64_t>(strips, 1) / kMostWork;
    const std::int64_t parts = std::clamp<std::int64_t>(std::max(units, fine), 1, panels);
    const std::int64_t a_group = group_panel_elements(sweep);
    parallel_for(products * parts, sweep.flops / std::max<std::int64_t>(strips * parts, 1),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int64_t part = i % parts;
                     Unit unit;
                     unit.strip = i / parts % strips;
                     unit.block = blocks.begin + i / parts / strips / shape_.groups;
                     unit.group = i / parts / strips % shape_.groups;
                     unit.row = panels * part / parts * panel_rows;
                     unit.rows =
                         std::min(panels * (part + 1) / parts * panel_rows, sweep.rows) - unit.row;
                     OuterProduct<T> product = start;
                     product.rows = unit.rows;
                     product.a = factors.a + unit.group * a_group + unit.row * sweep.a_row;
                     product.b = factors.b + unit.block * factors.b_layout.block() +
                                 unit.group * factors.b_group;
                     if (product.bias) product.bias += unit.group * sweep.rows + unit.row;
                     place(unit, product);
                     run_strip(sweep, unit.strip, factors.b_layout, c_layout, product);
                     done(unit, product);
                   }
                 });
  }

  // Of a product, the rows and where its matrices lie are given.
  void run_strip(const Sweep& sweep, std::int64_t strip, const Layout& from, const Layout& to,
                 OuterProduct<T>& product) const {
    product.a_row = sweep.a_row;
    product.panel_rows = sweep.panel_rows;
    product.a_panel = sweep.panel_rows * sweep.a_row;
    for (const Piece& piece : sweep.strips[static_cast<std::size_t>(strip)]) {
      const PixelClass& c_class = sweep.classes[piece.pixel_class];
      product.depth = static_cast<std::int64_t>(c_class.a_offsets.size());
      product.a_offsets = c_class.a_offsets.data();
      product.b_offsets = c_class.b_offsets.data();
      product.columns = piece.end - piece.begin;
      product.depth_block = depth_block(product.rows, product.depth, product.columns, from, to);
      product.b_columns = c_class.b_columns.data() + piece.begin;
      product.c_columns = c_class.c_columns.data() + piece.begin;
      isa_table<T>().outer_product.run(product);
    }
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

  std::int64_t weight_count() const { return shape_.O * (shape_.C / shape_.groups) * taps(); }

  std::int64_t taps() const { return shape_.window.KH * shape_.window.KW; }

  // Whether what a strip reads does not stay in the first-level cache.
  bool reads_far(const Sweep& sweep, const Layout& from) const {
    constexpr std::int64_t kNearBytes = 24 * 1024;
    const auto strips = static_cast<std::int64_t>(sweep.strips.size());
    return from.block() / shape_.groups * static_cast<std::int64_t>(sizeof(T)) >
           kNearBytes * strips;
  }

  static std::int64_t group_panel_elements(const Sweep& sweep) {
    return (sweep.rows + sweep.panel_rows - 1) / sweep.panel_rows * sweep.panel_rows * sweep.a_row;
  }
  std::int64_t panel_elements(const Sweep& sweep) const {
    return shape_.groups * group_panel_elements(sweep);
  }

  // Weights in panels: of each group (panels, others, taps, rows). In w, rows are `row` apart, and
  // the other side's channels `other`.
  void lay_out(const Sweep& sweep, const T* w, std::int64_t row, std::int64_t others,
               std::int64_t other, T* to) const {
    const auto& kernels = isa_table<T>().outer_product;
    const std::int64_t width = sweep.panel_rows, taps = this->taps(), depth = sweep.a_row;
    const std::int64_t panels = (sweep.rows + width - 1) / width;
    // Of k, so many at once; panels take turns, so that w is read along its own rows. They are
    // packed beside, since what is written behind them may be another thread's.
    const bool dense = other == taps;
    const std::int64_t together = dense ? others : taps == 1 ? kBlockLanes : 1;
    parallel_for(shape_.groups * panels, width * depth * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   T* const packed = scratch<T>(width * together * taps + kBlockLanes);
                   for (std::int64_t i = 0; i < others; i += together)
                     for (std::int64_t unit = begin; unit < end; ++unit) {
                       const std::int64_t group = unit / panels, start = unit % panels * width;
                       const std::int64_t count = std::min(together, others - i) * taps;
                       kernels.pack(width, std::min(width, sweep.rows - start), count,
                                    w + group * sweep.rows * depth + start * row + i * other, row,
                                    dense || taps > 1 ? 1 : other, packed);
                       std::copy_n(packed, width * count,
                                   to + unit * width * depth + i * taps * width);
                     }
                 });
  }

  // The bias gradient of each of these blocks, in its shard: of bands one by one where there are
  // any, as in weight_gradients_by_taps, since the bits are to be the same.
  void bias_gradients(const Run<T>& run, BlockRange blocks, const T* dy) const {
    const std::int64_t plane = layer_.dy.plane(), first = blocks.begin * shape_.O;
    const std::int64_t bands = pool_ ? pool_->bands() : 1;
    parallel_for(
        blocks.count() * shape_.O, plane * kWorkPerMove, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t band = 0; band < bands; ++band)
            isa_table<T>().dot_product.sum_rows(
                end - begin, plane, 1, 0, pool_ ? pool_->pixels(band) : layer_.dy.pixels(),
                dy + (first + begin) * plane + layer_.dy.at(pool_ ? pool_->first_row(band) : 0, 0),
                band > 0, bias_shards(run) + first + begin);
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
    const std::int64_t sums = kSumBytes / static_cast<std::int64_t>(sizeof(T)) / kernels.lanes;
    const double balanced =
        std::sqrt(static_cast<double>(sums * layer_.x.pixels()) /
                  static_cast<double>(std::max<std::int64_t>(taps() * layer_.dy.pixels(), 1)));
    const std::int64_t column_tiles = (columns + kernels.columns - 1) / kernels.columns;
    std::int64_t tiles = static_cast<std::int64_t>(balanced) / kernels.rows + 1;
    for (;; --tiles) {
      const std::int64_t rows = std::clamp<std::int64_t>(outputs, 1, tiles * kernels.rows);
      const WeightUnits units{(outputs + rows - 1) / rows,
                              std::min(rows * columns / sums + 1, column_tiles)};
      if (tiles == 1 || blocks_ * shape_.groups * units.rows * units.panels >= kUnits) return units;
    }
  }

  // Whether dy and x are matrices (channels, pixels and samples), whose product the weight gradient
  // is; of so many channels that turning them costs less than adding up lanes.
  bool weights_are_a_matrix() const {
    constexpr std::int64_t kChannels = 32;
    const Window& w = shape_.window;
    return taps() == 1 && w.H == w.OH && w.W == w.OW && !layer_.x.has_halo() &&
           std::min(shape_.O, shape_.C) >= kChannels * shape_.groups;
  }

  // Where the weight gradients of these blocks lie; that of a single one, if it can, in its place.
  T* weight_shards(const Run<T>& run) const {
    const ParameterGradient<T> dw = layer_.weight_gradient(run);
    const bool in_place = !unfolded_ && shards_in_all_ == 1 && !dw.updates() && !dw.add();
    return in_place ? dw.memory() : run.at(shards_) + first_shard_ * weight_count();
  }

  T* bias_shards(const Run<T>& run) const { return run.at(bias_shards_) + first_shard_ * shape_.O; }

  // The weight gradient of each of these blocks, in its shard.
  void weight_gradients(const Run<T>& run, BlockRange blocks, const T* dy) const {
    if (weights_are_a_matrix())
      weight_gradients_by_products(run, blocks, dy);
    else if (shifts_.empty())
      weight_gradients_by_taps(run, blocks, dy);
    else
      weight_gradients_by_shifts(run, blocks, dy);
  }

  void weight_gradients_by_products(const Run<T>& run, BlockRange blocks, const T* dy) const {
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    Gemm<T> product;
    product.M = outputs, product.N = channels, product.K = layer_.x.pixels() * kBlockLanes;
    product.a_row = layer_.dy.plane(), product.a_column = 1;
    product.b_row = 1, product.b_column = layer_.x.plane();
    product.c_row = channels;
    for (std::int64_t block = blocks.begin; block < blocks.end; ++block)
      for (std::int64_t group = 0; group < shape_.groups; ++group) {
        product.a = dy + block * layer_.dy.block() + group * outputs * product.a_row;
        product.b = run.at(layer_.x_data, blocks) + block * layer_.x.block() +
                    group * channels * product.b_column;
        product.c = weight_shards(run) + block * weight_count() + group * outputs * channels;
        multiply(product);
      }
  }

  void weight_gradients_by_taps(const Run<T>& run, BlockRange blocks, const T* dy) const {
    const auto& kernels = isa_table<T>().dot_product;
    const std::int64_t outputs = shape_.O / shape_.groups, channels = shape_.C / shape_.groups;
    const auto columns = static_cast<std::int64_t>(taps_.size());
    const auto positions = layer_.dy.pixels();
    const WeightUnits units = weight_units(outputs, columns);
    const std::int64_t column_tiles = (columns + kernels.columns - 1) / kernels.columns;
    // Pixels whose gradients, of a tile's rows, stay in the first-level cache.
    constexpr std::int64_t kPositions = 400 / sizeof(T);
    const std::int64_t strips =
        by_bands_ ? pool_->bands() : (positions + kPositions - 1) / kPositions;
    const T* const x = run.at(layer_.x_data, blocks);
    T* const shards = weight_shards(run);
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
        product.b = x + block * layer_.x.block() + group * channels * layer_.x.plane();
        product.b_columns = taps_.data() + column;
        const std::int64_t sums = product.rows * product.columns * kernels.lanes;
        product.a_row = by_bands_ ? pool_->layout().plane() : layer_.dy.plane();
        product.sums = scratch<T>(sums + (by_bands_ ? product.rows * product.a_row : 0));
        for (std::int64_t strip = 0; strip < strips; ++strip) {
          std::int64_t p = positions * strip / strips;
          product.depth = positions * (strip + 1) / strips - p;
          if (by_bands_) {
            T* const band = product.sums + sums;
            p = pool_->first_row(strip) * layer_.dy.width;
            product.depth = pool_->pixels(strip);
            product.a = band;
            pool_->backward(run, blocks, block, first, product.rows, strip, band);
            if (layer_.needs_db)
              kernels.sum_rows(product.rows, product.a_row, 1, 0, product.depth, band, strip > 0,
                               bias_shards(run) + block * shape_.O + first);
          } else {
            product.a =
                dy + block * layer_.dy.block() + first * layer_.dy.plane() + layer_.dy.at(0, p);
          }
          product.add = strip > 0;
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
    const T* const x = run.at(layer_.x_data, blocks);
    T* const shards = weight_shards(run);
    const std::int64_t tasks = shape_.O * row_tiles;
    parallel_for(blocks.count() * tasks, 2 * kernels.rows * taps * layer_.x.pixels() * kBlockLanes,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t block = blocks.begin + unit / tasks, task = unit % tasks;
                     const std::int64_t output = task / row_tiles, tile = task % row_tiles;
                     const std::int64_t channel = channels * tile / row_tiles;
                     DotProduct<T> product;
                     product.rows = channels * (tile + 1) / row_tiles - channel;
                     product.columns = taps;
                     product.depth = layer_.x.width;
                     product.a_row = layer_.x.plane();
                     product.b_columns = shifts_.data();
                     product.b_offsets = positions_.data();
                     product.sums = scratch<T>(product.rows * taps * kernels.lanes);
                     for (std::int64_t h = 0; h < layer_.x.height; ++h) {
                       product.add = h > 0;
                       product.a = x + block * layer_.x.block() +
                                   (output / outputs * channels + channel) * layer_.x.plane() +
                                   layer_.x.at(h, 0);
                       product.b = dy + block * layer_.dy.block() + output * layer_.dy.plane() +
                                   h * layer_.dy.row();
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
    parallel_for((size + kPiece - 1) / kPiece, kPiece * shards_in_all_ * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   T sums[kPiece];
                   for (std::int64_t piece = begin; piece < end; ++piece) {
                     const std::int64_t first = piece * kPiece;
                     const std::int64_t count = std::min(kPiece, size - first);
                     if (shards_in_all_ == 1) {
                       gradient.write(first, count, shards + first);
                       continue;
                     }
                     T* const to = gradient.updates() ? sums : gradient.memory() + first;
                     if (!gradient.add()) std::fill(to, to + count, T(0));
                     for (std::int64_t shard = 0; shard < shards_in_all_; ++shard) {
                       const T* const part = shards + shard * size + first;
                       for (std::int64_t i = 0; i < count; ++i) to[i] += part[i];
                     }
                     gradient.done(first, count, to);
                   }
                 });
  }

  const Conv2dShape shape_;
  const WeightedLayer layer_;
  const Conv2dStage* const unfolded_;  // the stage of the other blocks, whose buffers it shares
  const std::int64_t blocks_, shards_in_all_, first_shard_;
  int shards_ = -1, bias_shards_ = -1;  // gradients of the parameters, of each block
  int panels_ = -1, transposed_ = -1;   // weights in panels, for y and dx
  Sweep forward_, backward_;
  std::optional<KernelColumns> kernel_columns_;  // instead of forward_
  std::optional<Winograd<T>> winograd_forward_, winograd_backward_;
  int parts_ = -1;
  std::optional<BandPool<T>> pool_;
  bool by_bands_ = false;    // whether the gradient of what is pooled lies nowhere as a whole
  int image_gradient_ = -1;  // else where
  std::vector<std::int32_t> taps_, positions_;
  std::vector<std::int32_t> shifts_;  // of dy, by tap; empty: the gradient sums over pixels of y
};

}  // namespace

template <typename T>
std::unique_ptr<Stage<T>> make_conv2d_stage(Builder<T>& builder, const Conv2dNode& node,
                                            const LayerGradients& gradients) {
  return std::make_unique<Conv2dStage<T>>(builder, node, gradients);
}
template std::unique_ptr<Stage<float>> make_conv2d_stage(Builder<float>&, const Conv2dNode&,
                                                         const LayerGradients&);
template std::unique_ptr<Stage<double>> make_conv2d_stage(Builder<double>&, const Conv2dNode&,
                                                          const LayerGradients&);

}  // namespace pynn
