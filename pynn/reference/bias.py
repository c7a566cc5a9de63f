"""x (N, *shape) + b (*shape): a bias of its own for every element of a sample."""

import numpy as np

from pynn import _core
from pynn.errors import ShapeError
from pynn.reference.arrays import Array, dense, dense_as, result, silent


@silent
def bias(x: Array, b: Array) -> Array:
    x = dense("x", x)
    b = dense_as("b", b, x)
    _core.bias_shape(x.shape, b.shape)
    return result(x + b, x)


@silent
def bias_backward(
    dy: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]:
    dy = dense("dy", dy)
    if dy.ndim == 0:
        raise ShapeError("expected dy of shape (N, ...), got shape ()")
    dx = dy.copy() if needs[0] else None
    db = result(np.sum(dy, axis=0, dtype=np.float64), dy) if needs[1] else None
    return dx, db
