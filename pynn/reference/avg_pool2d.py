"""The mean of each window, or of each whole plane: x (N, C, H, W) -> y (N, C, OH, OW)."""

import numpy as np

from pynn import _core
from pynn.reference.arrays import (
    Array,
    Padding,
    Pair,
    Shape,
    dense,
    require_shape,
    result,
    silent,
)
from pynn.reference.windows import Windows


def _divisor(windows: Windows, count_include_pad: bool) -> Array:
    """What the sum of each window is divided by, (OH, OW).

    The number of pixels under the window, with or without the padding; never those that hang over
    the padded image (ceil_mode).
    """
    counts = []
    for axis, before, after in ((0, *windows.padding[:2]), (1, *windows.padding[2:])):
        size = windows.image[axis]
        start = np.arange(windows.output[axis]) * windows.stride[axis] - before
        end = np.minimum(start + windows.kernel[axis], size + after)
        if not count_include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, size)
        counts.append(end - start)
    return np.outer(*counts)


@silent
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    x = dense("x", x)
    y_shape, strides, sides, kernel = _core.pool2d_geometry(
        x.shape, kernel_size, stride, padding, ceil_mode
    )
    windows = Windows(x.shape[2:], y_shape[2:], kernel, strides, sides)
    x_padded = windows.padded(x)
    total = np.zeros(y_shape)
    for _, _, seen in windows.taps():
        total += x_padded[seen]
    return result(total / _divisor(windows, count_include_pad), x)


@silent
def avg_pool2d_backward(
    dy: Array,
    x_shape: Shape,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    dy = dense("dy", dy)
    y_shape, strides, sides, kernel = _core.pool2d_geometry(
        x_shape, kernel_size, stride, padding, ceil_mode
    )
    require_shape("dy", dy, y_shape)
    windows = Windows(tuple(x_shape[2:]), y_shape[2:], kernel, strides, sides)
    dx_padded = windows.padded(np.zeros(x_shape))
    share = dy / _divisor(windows, count_include_pad)
    for _, _, seen in windows.taps():
        dx_padded[seen] += share
    return result(windows.cropped(dx_padded), dy)


@silent
def global_avg_pool2d(x: Array) -> Array:
    x = dense("x", x)
    _core.global_avg_pool2d_shape(x.shape)
    return result(np.mean(x, axis=(2, 3), keepdims=True, dtype=np.float64), x)


@silent
def global_avg_pool2d_backward(dy: Array, x_shape: Shape) -> Array:
    dy = dense("dy", dy)
    require_shape("dy", dy, _core.global_avg_pool2d_shape(x_shape))
    return np.full(x_shape, dy / (x_shape[2] * x_shape[3]), dy.dtype)
