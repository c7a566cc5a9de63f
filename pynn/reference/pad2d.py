"""A frame of one value around the images: x (N, C, H, W) -> y (N, C, top + H + bottom, ...)."""

import numpy as np

from pynn import _core
from pynn.errors import ShapeError
from pynn.reference.arrays import Array, Padding, dense, silent


def _sides(padding: Padding) -> list[int]:
    """[top, bottom, left, right] of a padding that pad2d_shape has accepted."""
    if isinstance(padding, str):  # "valid"
        return [0, 0, 0, 0]
    sides: list[int] = np.ravel(padding).tolist()
    return sides if len(sides) == 4 else [sides[0], sides[0], sides[-1], sides[-1]]


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
    height, width = dy.shape[2] - top - bottom, dy.shape[3] - left - right
    if height < 0 or width < 0:
        raise ShapeError(
            f"dy of shape {dy.shape} is smaller than its padding ({top}, {bottom}, {left}, {right})"
        )
    return dy[:, :, top : top + height, left : left + width].copy()
