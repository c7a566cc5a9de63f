"""The adjoint of broadcasting, for the backward of every operator that broadcasts."""

import numpy as np

from pynn.reference.arrays import Array, Shape, result


def sum_to_shape(d: Array, shape: Shape) -> Array:
    """Sum `d` over the axes along which an array of `shape` was repeated to its shape."""
    new_axes = d.ndim - len(shape)
    repeated = tuple(
        axis
        for axis in range(d.ndim)
        if axis < new_axes or (shape[axis - new_axes] == 1 and d.shape[axis] != 1)
    )
    return result(np.sum(d, axis=repeated, dtype=np.float64).reshape(shape), d)
