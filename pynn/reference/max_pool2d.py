"""The maximum of each window: x (N, C, H, W) -> y, argmax (N, C, OH, OW)."""

import numpy as np
from numpy.typing import NDArray

from pynn import _core
from pynn.errors import DTypeError, ShapeError
from pynn.reference.arrays import Array, Padding, Pair, Shape, dense, require_shape
from pynn.reference.windows import Windows


def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Padding, ceil_mode: bool
) -> tuple[Array, NDArray[np.int64]]:
    x = dense("x", x)
    y_shape, strides, sides, kernel = _core.pool2d_geometry(
        x.shape, kernel_size, stride, padding, ceil_mode
    )
    height, width = x.shape[2:]
    windows = Windows((height, width), y_shape[2:], kernel, strides, sides)
    x_padded = windows.padded(x, value=-np.inf)
    first_row = np.arange(y_shape[2])[:, None] * strides[0] - sides[0]
    first_column = np.arange(y_shape[3]) * strides[1] - sides[2]

    # The first pixel of the window that is no padding, until a tap sees more. NaN is more than
    # anything, and neither an equal pixel nor a second NaN is more.
    y = np.full(y_shape, -np.inf, x.dtype)
    argmax = np.empty(y_shape, np.int64)
    argmax[...] = np.maximum(first_row, 0) * width + np.maximum(first_column, 0)
    for i, j, seen in windows.taps():
        pixel = x_padded[seen]
        more = (pixel > y) | (np.isnan(pixel) & ~np.isnan(y))
        y = np.where(more, pixel, y)
        argmax = np.where(more, (first_row + i) * width + first_column + j, argmax)
    return y, argmax


def max_pool2d_backward(dy: Array, argmax: NDArray[np.int64], x_shape: Shape) -> Array:
    dy = dense("dy", dy)
    if not (isinstance(argmax, np.ndarray) and argmax.dtype == np.int64):
        raise DTypeError("argmax must be a NumPy array of int64")
    require_shape("argmax", argmax, dy.shape)
    n, channels, height, width = x_shape
    require_shape("dy", dy, (n, channels, *dy.shape[2:]))
    if np.any((argmax < 0) | (argmax >= height * width)):
        raise ShapeError(f"argmax must lie in 0..{height * width - 1}")
    dx = np.zeros((n * channels, height * width), dy.dtype)
    plane = np.arange(n * channels)[:, None]
    pixels = dy.shape[2] * dy.shape[3]
    np.add.at(dx, (plane, argmax.reshape(-1, pixels)), dy.reshape(-1, pixels))
    return dx.reshape(x_shape)
