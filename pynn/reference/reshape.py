"""The same elements in another shape; axis 0, the batch, stays."""

from pynn import _core
from pynn.reference.arrays import Array, Shape, dense


def flatten(x: Array, start_axis: int) -> Array:
    x = dense("x", x)
    return x.reshape(_core.flatten_shape(x.shape, start_axis)).copy()


def reshape(x: Array, shape: Shape) -> Array:
    x = dense("x", x)
    return x.reshape(_core.reshape_shape(x.shape, shape)).copy()
