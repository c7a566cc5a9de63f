"""softmax and log_softmax over one axis; sums run in float64."""

import numpy as np

from pynn import _core
from pynn.reference.arrays import Array, dense, dense_as, require_shape, result, silent


def shifted(x: Array, axis: int) -> Array:
    """Return x less its maximum over the axis, so that exp cannot overflow."""
    maximum: Array = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return x - maximum


def total(x: Array, axis: int) -> Array:
    return np.add.reduce(x, axis=axis, keepdims=True, dtype=np.float64)


@silent
def softmax(x: Array, axis: int) -> Array:
    x = dense("x", x)
    _core.softmax_shape(x.shape, axis)
    e = np.exp(shifted(x, axis))
    return result(e / total(e, axis), x)


@silent
def softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    y = dense("y", y)
    dy = dense_as("dy", dy, y)
    require_shape("dy", dy, y.shape)
    _core.softmax_shape(y.shape, axis)
    return result(y * (dy - total(dy * y, axis)), y)


@silent
def log_softmax(x: Array, axis: int) -> Array:
    x = dense("x", x)
    _core.softmax_shape(x.shape, axis)
    z = shifted(x, axis)
    return result(z - np.log(total(np.exp(z), axis)), x)


@silent
def log_softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    y = dense("y", y)
    dy = dense_as("dy", dy, y)
    require_shape("dy", dy, y.shape)
    _core.softmax_shape(y.shape, axis)
    return result(dy - np.exp(y) * total(dy, axis), y)
