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
        raise DTypeError("argmax must be a NumPy array of int64, as max_pool2d returns it")
    x_shape = tuple(x_shape)
    if any(size < 0 for size in x_shape):
        raise ShapeError(f"x_shape has a negative size: {x_shape}")
    if len(x_shape) != 4 or dy.ndim != 4 or x_shape[:2] != dy.shape[:2]:
        raise ShapeError(
            f"dy must have shape (N, C, OH, OW) for an input of shape {x_shape}, got {dy.shape}"
        )
    require_shape("argmax", argmax, dy.shape)
    planes = x_shape[0] * x_shape[1]
    pixels, windows = x_shape[2] * x_shape[3], dy.shape[2] * dy.shape[3]
    if np.any((argmax < 0) | (argmax >= pixels)):
        raise ShapeError(
            f"argmax has an entry outside 0..{pixels - 1}, the pixels of an input of shape "
            f"{x_shape}"
        )
    dx = np.zeros((planes, pixels), dy.dtype)
    place = (np.arange(planes)[:, None], argmax.reshape(planes, windows))
    np.add.at(dx, place, dy.reshape(planes, windows))
    return dx.reshape(x_shape)
