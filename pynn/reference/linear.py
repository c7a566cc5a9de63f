"""x (..., in), w (out, in), b (out,) -> y (..., out)."""

import math

import numpy as np

from pynn import _core
from pynn.reference.arrays import (
    Array,
    dense,
    dense_as,
    optional_dense_as,
    require_shape,
    result,
    shape_of,
    silent,
)


@silent
def linear(x: Array, w: Array, b: Array | None) -> Array:
    x = dense("x", x)
    w = dense_as("w", w, x)
    b = optional_dense_as("b", b, x)
    _core.linear_shape(x.shape, w.shape, shape_of(b))
    y = x @ w.T
    return result(y if b is None else y + b, x)


@silent
def linear_backward(
    dy: Array, x: Array, w: Array, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Array | None, Array | None, Array | None]:
    x = dense("x", x)
    w = dense_as("w", w, x)
    dy = dense_as("dy", dy, x)
    require_shape("dy", dy, _core.linear_shape(x.shape, w.shape, None))
    outputs, inputs = w.shape
    rows = math.prod(x.shape[:-1])
    dy_rows, x_rows = dy.reshape(rows, outputs), x.reshape(rows, inputs)
    dx = result(dy @ w, x) if needs[0] else None
    dw = result(dy_rows.T @ x_rows, x) if needs[1] else None
    db = result(np.sum(dy_rows, axis=0, dtype=np.float64), x) if needs[2] else None
    return dx, dw, db
