// What a user may write for the stride and the padding of a window, and for the padding of
// an image: the one place that reads it.
#pragma once

#include <pybind11/pybind11.h>

#include "shapes/arrangement.h"
#include "shapes/window.h"

namespace pynn {

// An int, or (rows, columns).
Pair to_pair(const char* name, pybind11::handle object);
// An int, (rows, columns), (top, bottom, left, right), "valid", "same" or "full".
Padding to_padding(pybind11::handle object);

// The padding of an image that no window follows: the same, but for "same" and "full".
Sides to_sides(pybind11::handle object);

// The window of a pool from its arguments; stride may be None.
Window to_pool2d_window(const Shape& x, pybind11::handle kernel_size, pybind11::handle stride,
                        pybind11::handle padding, bool ceil_mode);

pybind11::tuple padding_tuple(const Window& w);  // (top, bottom, left, right)

}  // namespace pynn
