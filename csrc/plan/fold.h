// The last block of a batch, where most of its lanes would be empty: the images of its samples are
// cut into bands of rows, which lie side by side as if each were a sample. The first layers of a
// network, those on images, go over it apart from the full blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/layout.h"

namespace pynn {

struct PlanGraph;

struct Fold {
  std::size_t nodes = 0;           // so many, from the first on; 0: nothing is folded
  std::int64_t blocks = 0;         // full ones
  std::int64_t samples = 0;        // of the block that is folded
  std::int64_t bands = 0;          // of each of them
  int x = -1, y = -1;              // what these nodes read, and what they give
  std::vector<std::int64_t> rows;  // of a band, by value; 0: the value is not between these nodes
};

// It must not depend on which gradients are wanted: bits would.
Fold fold_of(const PlanGraph& graph);

// Of images whose bands have `rows` rows each.
Layout folded(Layout layout, const Fold& fold, std::int64_t rows);

// images (samples, channels, height, width) into bands, and back. Rows of bands beyond the image
// become 0.
template <typename T>
void to_bands(const Layout& layout, const T* images, T* bands);
template <typename T>
void from_bands(const Layout& layout, const T* bands, T* images);
// The rows around each band, which are its neighbours' or 0; and 0 for its rows beyond the image.
template <typename T>
void join_bands(const Layout& layout, T* bands);

}  // namespace pynn
