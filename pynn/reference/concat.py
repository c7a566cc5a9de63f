"""Arrays side by side along one axis."""

from collections.abc import Sequence

import numpy as np

from pynn import _core
from pynn.errors import ShapeError
from pynn.reference.arrays import Array, dense, dense_as


def concat(arrays: Sequence[Array], axis: int) -> Array:
    parts = [dense(f"arrays[{i}]", array) for i, array in enumerate(arrays)]
    parts = [dense_as(f"arrays[{i}]", part, parts[0]) for i, part in enumerate(parts)]
    _core.concat_shape([part.shape for part in parts], axis)
    return np.concatenate(parts, axis)


def concat_backward(dy: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    dy = dense("dy", dy)
    _core.softmax_shape(dy.shape, axis)  # which only asks that the axis be there
    if any(size < 0 for size in sizes) or sum(sizes) != dy.shape[axis]:
        raise ShapeError(
            f"sizes {tuple(sizes)} do not divide axis {axis % dy.ndim} of dy, of shape {dy.shape}"
        )
    return [part.copy() for part in np.split(dy, np.cumsum(sizes), axis)[:-1]]
