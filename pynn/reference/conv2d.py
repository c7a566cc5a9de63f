"""Convolution (as everywhere, in truth a cross-correlation) as a sum over the taps of the kernel.

x (N, C, H, W), w (O, C/groups, KH, KW), b (O,) -> y (N, O, OH, OW). Each tap (i, j) is one matrix,
w[:, :, i, j], that acts on the channels of the pixels it sees.
"""

import numpy as np

from pynn import _core
from pynn.reference.arrays import (
    Array,
    Padding,
    Pair,
    dense,
    dense_as,
    optional_dense_as,
    require_shape,
    result,
    shape_of,
    silent,
)
from pynn.reference.windows import Windows


def _by_group(image: Array, groups: int) -> Array:
    """(N, C, OH, OW) -> (N, groups, C / groups, OH * OW)."""
    n, channels, height, width = image.shape
    return image.reshape(n, groups, channels // groups, height * width)


@silent
def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    x = dense("x", x)
    w = dense_as("w", w, x)
    b = optional_dense_as("b", b, x)
    y_shape, strides, sides, dilations = _core.conv2d_geometry(
        x.shape, w.shape, shape_of(b), stride, padding, dilation, groups
    )
    windows = Windows(x.shape[2:], y_shape[2:], w.shape[2:], strides, sides, dilations)
    x_padded = windows.padded(x)
    w_by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])  # (G, O/G, C/G, KH, KW)
    y = np.zeros(y_shape, x.dtype)
    for i, j, seen in windows.taps():
        y += (w_by_group[..., i, j] @ _by_group(x_padded[seen], groups)).reshape(y_shape)
    if b is not None:
        y += b[:, None, None]
    return y


@silent
def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    x = dense("x", x)
    w = dense_as("w", w, x)
    dy = dense_as("dy", dy, x)
    y_shape, strides, sides, dilations = _core.conv2d_geometry(
        x.shape, w.shape, None, stride, padding, dilation, groups
    )
    require_shape("dy", dy, y_shape)
    windows = Windows(x.shape[2:], y_shape[2:], w.shape[2:], strides, sides, dilations)
    x_padded = windows.padded(x)
    w_by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])  # (G, O/G, C/G, KH, KW)
    dy_by_group = _by_group(dy, groups)  # (N, G, O/G, OH*OW)
    dx_padded = np.zeros_like(x_padded)
    dw_by_group = np.zeros_like(w_by_group)
    for i, j, seen in windows.taps():
        if needs[0]:
            dx_seen = w_by_group[..., i, j].mT @ dy_by_group
            dx_padded[seen] += dx_seen.reshape(dx_padded[seen].shape)
        if needs[1]:
            x_seen = _by_group(x_padded[seen], groups)
            dw_by_group[..., i, j] = np.sum(dy_by_group @ x_seen.mT, axis=0, dtype=np.float64)
    dx = result(windows.cropped(dx_padded), x) if needs[0] else None
    dw = dw_by_group.reshape(w.shape) if needs[1] else None
    db = result(np.sum(dy, axis=(0, 2, 3), dtype=np.float64), x) if needs[2] else None
    return dx, dw, db
