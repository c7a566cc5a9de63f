"""1 / (1 + exp(-x)), without overflow."""

import numpy as np

from pynn.reference.arrays import Array, dense, dense_as, require_shape, result, silent


@silent
def sigmoid(x: Array) -> Array:
    x = dense("x", x)
    small = np.exp(-np.abs(x))  # never more than 1
    return result(np.where(x < 0, small, 1) / (1 + small), x)


@silent
def sigmoid_backward(dy: Array, y: Array) -> Array:
    y = dense("y", y)
    dy = dense_as("dy", dy, y)
    require_shape("dy", dy, y.shape)
    return result(dy * y * (1 - y), y)
