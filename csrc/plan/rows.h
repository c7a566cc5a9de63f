// Walking several buffers of the same features at once, whichever of them have halos.
#pragma once

#include <array>

#include "plan/stage.h"

namespace pynn {

// Calls function(count, offsets) for runs of neighbouring elements; offsets[i] is where the run
// lies in a buffer of layouts[i]. Runs are at most 4096 elements where no layout has a halo.
template <std::size_t Count, typename Function>
void parallel_rows(const std::array<const Layout*, Count>& layouts, std::int64_t work_per_element,
                   const Function& function) {
  const Layout& first = *layouts[0];
  bool halo = false;
  for (const Layout* layout : layouts) halo = halo || layout->has_halo();
  if (!halo) {
    constexpr std::int64_t kPiece = 4096;
    const std::int64_t size = first.size();
    parallel_for((size + kPiece - 1) / kPiece, kPiece * work_per_element,
                 [&](std::int64_t begin, std::int64_t end) {
                   std::array<std::int64_t, Count> at{};
                   for (std::int64_t i = begin; i < end; ++i) {
                     at.fill(i * kPiece);
                     function(std::min(kPiece, size - i * kPiece), at);
                   }
                 });
    return;
  }
  const std::int64_t planes = first.blocks() * first.channels;
  parallel_for(planes, first.pixels() * kBlockLanes * work_per_element,
               [&](std::int64_t begin, std::int64_t end) {
                 std::array<std::int64_t, Count> at{};
                 for (std::int64_t plane = begin; plane < end; ++plane)
                   for (std::int64_t h = 0; h < first.height; ++h) {
                     for (std::size_t i = 0; i < Count; ++i)
                       at[i] = plane * layouts[i]->plane() + layouts[i]->at(h, 0);
                     function(first.width * kBlockLanes, at);
                   }
               });
}

// Layout of a gradient: that of its value without the halo.
inline Layout without_halo(Layout layout) {
  layout.top = layout.bottom = layout.left = layout.right = 0;
  return layout;
}

}  // namespace pynn
