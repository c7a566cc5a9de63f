"""max(x, 0), where NaN stays NaN."""

import numpy as np

from pynn.reference.arrays import Array, dense, dense_as, require_shape, result


def relu(x: Array) -> Array:
    x = dense("x", x)
    return result(np.where(x < 0, 0, x), x)


def relu_backward(dy: Array, y: Array) -> Array:
    y = dense("y", y)
    dy = dense_as("dy", dy, y)
    require_shape("dy", dy, y.shape)
    return result(np.where(y <= 0, 0, dy), y)
