#include "plan/convert.h"

#include <algorithm>

namespace pynn {
namespace {

// A run of neighbouring elements of a sample that are neighbours in the blocks too: a row of an
// image where there is a halo, otherwise a part of all features.
constexpr std::int64_t kRun = 128;

struct Runs {
  explicit Runs(const Layout& layout)
      : layout(layout),
        length(layout.has_halo() ? layout.width
               : layout.gap > 0  ? layout.pixels()
                                 : kRun),
        per_block((layout.features() + length - 1) / std::max<std::int64_t>(length, 1)) {}

  const Layout layout;
  const std::int64_t length, per_block;

  std::int64_t count(std::int64_t run) const {
    return std::min(length, layout.features() - run * length);
  }
  std::int64_t offset(std::int64_t run) const {  // in a block
    if (layout.dense()) return run * length * kBlockLanes;
    if (!layout.has_halo()) return run * layout.plane();
    return run / layout.height * layout.plane() + layout.at(run % layout.height, 0);
  }
};

// Calls visit(count, samples, offset) for each run of these blocks, on several threads: of `count`
// elements, which lie at samples[i] of the block's sample i, null beyond the last, and from
// `offset` on in the blocks.
template <typename Element, typename Visit>
void each_run(const Layout& layout, Element* rows, BlockRange range, const Visit& visit) {
  const Runs runs(layout);
  const std::int64_t first = range.begin * runs.per_block;
  parallel_for(range.count() * runs.per_block, runs.count(0) * kBlockLanes * kWorkPerMove,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = first + begin; unit < first + end; ++unit) {
                   const std::int64_t block = unit / runs.per_block, run = unit % runs.per_block;
                   Element* samples[kBlockLanes];
                   for (std::int64_t lane = 0; lane < kBlockLanes; ++lane) {
                     const std::int64_t sample = block * kBlockLanes + lane;
                     samples[lane] = sample < layout.samples
                                         ? rows + sample * layout.features() + run * runs.length
                                         : nullptr;
                   }
                   visit(runs.count(run), samples, block * layout.block() + runs.offset(run));
                 }
               });
}

}  // namespace

template <typename T>
void to_blocks(const Layout& layout, const T* rows, T* blocks) {
  if (layout.is_array()) {
    std::copy_n(rows, layout.size(), blocks);
    return;
  }
  const auto& kernels = isa_table<T>().sample_blocks;
  each_run(layout, rows, {0, layout.blocks(), 0},
           [&](std::int64_t count, const T* const* samples, std::int64_t offset) {
             kernels.gather(count, samples, blocks + offset);
           });
}

template <typename T>
void from_blocks(const Layout& layout, const T* blocks, T* rows) {
  from_blocks(layout, blocks, rows, {0, layout.blocks(), 0});
}

template <typename T>
void from_blocks(const Layout& layout, const T* blocks, T* rows, BlockRange range) {
  if (layout.is_array()) {
    const std::int64_t size = layout.features();
    std::copy_n(blocks + range.begin * size, range.count() * size, rows + range.begin * size);
    return;
  }
  const auto& kernels = isa_table<T>().sample_blocks;
  each_run(layout, rows, range, [&](std::int64_t count, T* const* samples, std::int64_t offset) {
    kernels.scatter(count, blocks + offset, samples);
  });
}

template <typename T>
void copy_blocks(const Layout& from_layout, const T* from, const Layout& to_layout, T* to,
                 BlockRange blocks) {
  const Layout& images = !from_layout.dense() ? from_layout : to_layout;
  const Runs runs(images);
  const auto dense = [&](std::int64_t run) { return run * runs.length * kBlockLanes; };
  for (std::int64_t block = blocks.begin; block < blocks.end; ++block)
    for (std::int64_t run = 0; run < runs.per_block; ++run) {
      const T* const source = from + block * from_layout.block() +
                              (!from_layout.dense() ? runs.offset(run) : dense(run));
      std::copy(
          source, source + runs.count(run) * kBlockLanes,
          to + block * to_layout.block() + (!to_layout.dense() ? runs.offset(run) : dense(run)));
    }
}

template <typename T>
void clear_halo(const Layout& layout, T* blocks) {
  const std::int64_t rows = layout.top + layout.height + layout.bottom, row = layout.row();
  const std::int64_t left = layout.left * kBlockLanes, right = layout.right * kBlockLanes;
  for (T* plane = blocks; plane < blocks + layout.size(); plane += layout.plane()) {
    std::fill(plane, plane + layout.top * row, T(0));
    for (std::int64_t h = layout.top; h < layout.top + layout.height; ++h) {
      std::fill(plane + h * row, plane + h * row + left, T(0));
      std::fill(plane + (h + 1) * row - right, plane + (h + 1) * row, T(0));
    }
    std::fill(plane + (layout.top + layout.height) * row, plane + rows * row, T(0));
  }
}

#define PYNN_INSTANTIATE(T)                                                          \
  template void to_blocks(const Layout&, const T*, T*);                              \
  template void from_blocks(const Layout&, const T*, T*);                            \
  template void from_blocks(const Layout&, const T*, T*, BlockRange);                \
  template void copy_blocks(const Layout&, const T*, const Layout&, T*, BlockRange); \
  template void clear_halo(const Layout&, T*);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)
#undef PYNN_INSTANTIATE

}  // namespace pynn
