// Arrays (N, ...) into a plan's blocks and back; where a plan has arrays itself, copies.
#pragma once

#include "plan/stage.h"

namespace pynn {

// The lanes beyond the last sample become 0. The halo is not touched.
template <typename T>
void to_blocks(const Layout& layout, const T* rows, T* blocks);
template <typename T>
void from_blocks(const Layout& layout, const T* blocks, T* rows);
// Of these blocks alone.
template <typename T>
void from_blocks(const Layout& layout, const T* blocks, T* rows, BlockRange range);
// Between two layouts of the same features in the same order, one of which has a halo.
template <typename T>
void copy_blocks(const Layout& from_layout, const T* from, const Layout& to_layout, T* to,
                 BlockRange blocks);
template <typename T>
void clear_halo(const Layout& layout, T* blocks);

}  // namespace pynn
