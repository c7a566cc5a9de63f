#include "plan/winograd.h"

#include <algorithm>
#include <atomic>

#include "plan/products.h"
#include "plan/sweep.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

constexpr std::int64_t kPoints = 16;

std::atomic<bool> enabled{false};

std::int64_t tiles_along(std::int64_t pixels) { return (pixels + 1) / 2; }

// How many of the three taps of each of `positions` see one of `pixels`, in all.
std::int64_t taps_along(std::int64_t positions, std::int64_t before, std::int64_t pixels) {
  std::int64_t taps = 0;
  for (std::int64_t i = 0; i < positions; ++i)
    for (std::int64_t at = i - before; at < i - before + 3; ++at) taps += at >= 0 && at < pixels;
  return taps;
}

// For each tile of 2 x 2 pixels of `to`, the `size` x `size` pixels of `image` that begin so many
// rows above its first pixel and columns before it.
std::vector<WinogradTile> tiles_of(const Layout& to, const Layout& image, std::int64_t size,
                                   std::int64_t above, std::int64_t before) {
  std::vector<WinogradTile> tiles;
  for (std::int64_t h = -above; h < to.height - above; h += 2)
    for (std::int64_t w = -before; w < to.width - before; w += 2) {
      WinogradTile tile{image.at(h, w), 0};
      for (std::int64_t i = 0; i < size * size; ++i) {
        const std::int64_t row = h + i / size, column = w + i % size;
        if (row >= 0 && row < image.height && column >= 0 && column < image.width)
          tile.inside |= std::uint32_t{1} << i;
      }
      tiles.push_back(tile);
    }
  return tiles;
}

// Points a power of two apart would all lie in the same few lines of a cache.
std::int64_t spaced(std::int64_t elements) {
  return elements / kBlockLanes % 2 == 0 ? elements + kBlockLanes : elements;
}

}  // namespace

bool winograd_enabled() { return enabled.load(std::memory_order_relaxed); }
void enable_winograd(bool wanted) { enabled.store(wanted, std::memory_order_relaxed); }

bool suits_winograd(const Conv2dShape& shape, Direction direction) {
  constexpr std::int64_t kChannels = 40;  // fewer pay for the transforms too rarely
  const Window& w = shape.window;
  if (w.KH != 3 || w.KW != 3 || w.stride_h != 1 || w.stride_w != 1 || w.dilation_h != 1 ||
      w.dilation_w != 1 || std::min(shape.C, shape.O) < kChannels * shape.groups)
    return false;
  const bool forward = direction == Direction::forward;
  const std::int64_t products =
      kPoints * tiles_along(forward ? w.OH : w.H) * tiles_along(forward ? w.OW : w.W);
  const std::int64_t taps = taps_along(w.OH, w.top, w.H) * taps_along(w.OW, w.left, w.W);
  return 20 * products <= 13 * taps;
}

template <typename T>
Winograd<T>::Winograd(const Conv2dShape& shape, const Layout& from, const Layout& to,
                      Direction direction)
    : shape_(shape), from_(from), to_(to), direction_(direction) {
  const Window& w = shape.window;
  const bool forward = direction == Direction::forward;
  read_ = tiles_of(to, from, 4, forward ? w.top : 2 - w.top, forward ? w.left : 2 - w.left);
  written_ = tiles_of(to, to, 2, 0, 0);
  const std::int64_t most_rows = isa_table<T>().outer_product.rows;
  const std::int64_t least = (rows() + most_rows - 1) / most_rows;
  panel_rows_ = (rows() + least - 1) / least;
  // Few tiles, so that what a strip reads of images stays in the second-level cache, or nearly so,
  // while all weights pass; but a whole tile of the products.
  constexpr std::int64_t kCacheBytes = 768 * 1024, kLeastTiles = 4;
  const auto tiles = static_cast<std::int64_t>(read_.size());
  const std::int64_t most = std::max(
      kCacheBytes / (kPoints * depth() * kBlockLanes * static_cast<std::int64_t>(sizeof(T))) /
          kLeastTiles * kLeastTiles,
      kLeastTiles);
  strips_ = (tiles + most - 1) / most;
  strip_tiles_ = (tiles + strips_ - 1) / strips_;
  a_offsets_ = multiples<std::int32_t>(depth(), panel_rows_);
  b_offsets_ = multiples<std::int32_t>(depth(), strip_tiles_ * kBlockLanes);
  columns_ = multiples<std::int64_t>(strip_tiles_, kBlockLanes);
}

template <typename T>
std::int64_t Winograd<T>::rows() const {
  return (direction_ == Direction::forward ? shape_.O : shape_.C) / shape_.groups;
}

template <typename T>
std::int64_t Winograd<T>::depth() const {
  return (direction_ == Direction::forward ? shape_.C : shape_.O) / shape_.groups;
}

template <typename T>
std::int64_t Winograd<T>::flops() const {
  return 2 * kPoints * shape_.groups * rows() * depth() * static_cast<std::int64_t>(read_.size()) *
         kBlockLanes;
}

template <typename T>
std::int64_t Winograd<T>::weight_elements() const {
  return kPoints * weight_point();
}

template <typename T>
void Winograd<T>::transform(const T* w, T* points) const {
  const IsaTable<T>& isa = isa_table<T>();
  constexpr std::int64_t kTaps = 9;
  const bool forward = direction_ == Direction::forward;
  const std::int64_t width = panel_rows_, depth = this->depth();
  const std::int64_t row = forward ? depth * kTaps : kTaps,
                     other = forward ? kTaps : rows() * kTaps;
  // Of k, so many at once.
  const std::int64_t together = forward ? std::min<std::int64_t>(depth, 64) : 1;
  const std::int64_t packed = width * together * kTaps + kBlockLanes;
  const std::int64_t point = width * together + kBlockLanes;
  parallel_for(shape_.groups * panels(), width * depth * kPoints * kWorkPerMove,
               [&](std::int64_t begin, std::int64_t end) {
                 T* const taps = scratch<T>(packed + kPoints * point);
                 T* const transformed = taps + packed;
                 for (std::int64_t k = 0; k < depth; k += together)
                   for (std::int64_t unit = begin; unit < end; ++unit) {
                     const std::int64_t group = unit / panels(), start = unit % panels() * width;
                     const std::int64_t count = std::min(together, depth - k);
                     isa.outer_product.pack(
                         width, std::min(width, rows() - start), count * kTaps,
                         w + group * rows() * depth * kTaps + start * row + k * other, row, 1,
                         taps);
                     isa.winograd.weights(width, count, !forward, taps, point, transformed);
                     for (std::int64_t p = 0; p < kPoints; ++p)
                       std::copy_n(transformed + p * point, width * count,
                                   points + p * weight_point() + (unit * depth + k) * width);
                   }
               });
}

template <typename T>
void Winograd<T>::run(BlockRange blocks, const T* points, const T* from,
                      const WinogradResult<T>& result, T* to) const {
  const IsaTable<T>& isa = isa_table<T>();
  constexpr std::int64_t kChunkRows = 48;  // whose points stay in the second-level cache
  const std::int64_t chunk_panels = std::max<std::int64_t>(kChunkRows / panel_rows_, 1);
  const std::int64_t products = blocks.count() * shape_.groups * strips_;
  // Each part transforms the images anew: as few as give threads something to do.
  constexpr std::int64_t kLeastUnits = kUnits / 2;
  const std::int64_t parts =
      std::clamp<std::int64_t>((kLeastUnits + products - 1) / std::max<std::int64_t>(products, 1),
                               1, (panels() + chunk_panels - 1) / chunk_panels);
  const std::int64_t line = strip_tiles_ * kBlockLanes;
  const std::int64_t read_point = spaced(depth() * line);
  const std::int64_t written_point = spaced(chunk_panels * panel_rows_ * line);
  parallel_for(
      products * parts, flops() / (shape_.groups * strips_ * parts),
      [&](std::int64_t begin, std::int64_t end) {
        T* const read = scratch<T>(kPoints * (read_point + written_point));
        T* const written = read + kPoints * read_point;
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t part = unit % parts, strip = unit / parts % strips_;
          const std::int64_t block = blocks.begin + unit / parts / strips_ / shape_.groups;
          const std::int64_t group = unit / parts / strips_ % shape_.groups;
          const auto tiles = static_cast<std::int64_t>(read_.size());
          const std::int64_t first = tiles * strip / strips_;
          const std::int64_t count = tiles * (strip + 1) / strips_ - first;
          isa.winograd.input(
              {depth(), count, read_.data() + first, from_.plane(), from_.row(), read_point, line},
              from + block * from_.block() + group * depth() * from_.plane(), read);
          const std::int64_t end_panel = panels() * (part + 1) / parts;
          for (std::int64_t panel = panels() * part / parts; panel < end_panel;
               panel += chunk_panels) {
            const std::int64_t row = panel * panel_rows_;
            OuterProduct<T> product{};
            product.rows =
                std::min(std::min(panel + chunk_panels, end_panel) * panel_rows_, rows()) - row;
            product.columns = count;
            product.depth = product.depth_block = depth();
            product.a_offsets = a_offsets_.data();
            product.b_offsets = b_offsets_.data();
            product.b_columns = product.c_columns = columns_.data();
            product.c_row = line;
            product.panel_rows = panel_rows_;
            product.a_panel = panel_rows_ * depth();
            for (std::int64_t p = 0; p < kPoints; ++p) {
              product.a = points + p * weight_point() + group * group_point() + row * depth();
              product.b = read + p * read_point;
              product.c = written + p * written_point;
              isa.outer_product.run(product);
            }
            const std::int64_t channel = group * rows() + row;
            const std::int64_t at = block * to_.block() + channel * to_.plane();
            WinogradResult<T> of_chunk = result;
            if (of_chunk.bias) of_chunk.bias += channel;
            if (of_chunk.mask) of_chunk.mask += at;
            isa.winograd.output({product.rows, count, written_.data() + first, to_.plane(),
                                 to_.row(), written_point, line},
                                written, of_chunk, to + at);
          }
        }
      });
}

template class Winograd<float>;
template class Winograd<double>;

}  // namespace pynn
