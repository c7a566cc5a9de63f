// Walking several buffers of the same features at once, whichever of them have halos.
#pragma once

#include <algorithm>
#include <array>

#include "plan/stage.h"

namespace pynn {

// Calls function(count, offsets) for runs of neighbouring elements of these blocks; offsets[i] is
// where the run lies in a buffer of layouts[i]. Runs are at most 4096 elements where no layout has
// a halo, otherwise rows of images.
template <std::size_t Count, typename Function>
void parallel_rows(const std::array<const Layout*, Count>& layouts, BlockRange blocks,
                   const Function& function) {
  const Layout& first = *layouts[0];
  bool flat = true;
  for (const Layout* layout : layouts)
    flat = flat && !layout->has_halo() && layout->plane() == first.plane();
  if (flat) {
    constexpr std::int64_t kPiece = 4096;
    const std::int64_t start = blocks.begin * first.block(), size = blocks.count() * first.block();
    parallel_for((size + kPiece - 1) / kPiece, kPiece * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   std::array<std::int64_t, Count> at{};
                   for (std::int64_t i = begin; i < end; ++i) {
                     at.fill(start + i * kPiece);
                     function(std::min(kPiece, size - i * kPiece), at);
                   }
                 });
    return;
  }
  const std::int64_t start = blocks.begin * first.channels;
  parallel_for(blocks.count() * first.channels, first.pixels() * first.lanes * kWorkPerMove,
               [&](std::int64_t begin, std::int64_t end) {
                 std::array<std::int64_t, Count> at{};
                 for (std::int64_t plane = start + begin; plane < start + end; ++plane)
                   for (std::int64_t h = 0; h < first.height; ++h) {
                     for (std::size_t i = 0; i < Count; ++i)
                       at[i] = plane * layouts[i]->plane() + layouts[i]->at(h, 0);
                     function(first.width * first.lanes, at);
                   }
               });
}

// The same for two gradients, which have no halo: to = from, or to += from.
template <typename T>
void pass_gradient(const Layout& layout, BlockRange blocks, const T* from, bool add, T* to) {
  parallel_rows<1>({&layout}, blocks, [&](std::int64_t count, const auto& at) {
    const T* const source = from + at[0];
    T* const target = to + at[0];
    for (std::int64_t i = 0; i < count; ++i) target[i] = add ? target[i] + source[i] : source[i];
  });
}

}  // namespace pynn
