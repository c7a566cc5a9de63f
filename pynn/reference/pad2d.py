"""A frame of one value around the images: x (N, C, H, W) -> y (N, C, top + H + bottom, ...)."""

from collections.abc import Sequence

import numpy as np

from pynn import _core
from pynn.reference.arrays import Array, Padding, dense, silent


def _sides(padding: Padding) -> Sequence[int]:
    """(top, bottom, left, right) of a padding that pad2d_shape has accepted."""
    if isinstance(padding, str):  # "valid"
        return (0, 0, 0, 0)
    if isinstance(padding, int | np.integer):
        return (int(padding),) * 4
    if len(padding) == 2:
        return (padding[0], padding[0], padding[1], padding[1])
    return padding


@silent
def pad2d(x: Array, padding: Padding, value: float) -> Array:
    x = dense("x", x)
    _core.pad2d_shape(x.shape, padding)
    top, bottom, left, right = _sides(padding)
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def pad2d_backward(dy: Array, padding: Padding) -> Array:
    dy = dense("dy", dy)
    _core.pad2d_shape(dy.shape, padding)
    top, bottom, left, right = _sides(padding)
    return dy[:, :, top : dy.shape[2] - bottom, left : dy.shape[3] - right].copy()
