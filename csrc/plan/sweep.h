// Convolution as products with tables of offsets: nothing is copied. Pixels that see the same taps
// of the kernel form a class, so that no tap outside the image is ever multiplied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/conv2d.h"
#include "plan/layout.h"

namespace pynn {

// As many units of work as this, at least, so that threads have about equal work.
constexpr std::int64_t kUnits = 16;

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
  std::int64_t panel_rows = 1;  // of A, which lies in panels; 1: it lies in rows
  std::vector<PixelClass> classes;
  std::vector<std::vector<Piece>> strips;
  std::int64_t flops = 0;  // of one image and group, for 16 samples
};

// A in panels of as many rows, at most.
void lay_in_panels(Sweep& sweep, std::int64_t most_rows);

// A strip for each band of so many rows of the image that is written.
void cut_into_bands(Sweep& sweep, const Layout& to, std::int64_t rows);

// `tile`: pixels of a tile of the product.
Sweep forward_sweep(const Conv2dShape& s, const Layout& x, const Layout& y, std::int64_t tile,
                    std::int64_t element_bytes);
Sweep backward_sweep(const Conv2dShape& s, const Layout& dx, const Layout& dy, std::int64_t tile,
                     std::int64_t element_bytes);

}  // namespace pynn
