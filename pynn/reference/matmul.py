"""a (..., M, K) @ b (..., K, N) -> y (..., M, N); the leading dimensions broadcast."""

import numpy as np

from pynn import _core
from pynn.reference.arrays import Array, dense, dense_as, require_shape, result, silent
from pynn.reference.broadcasting import sum_to_shape


@silent
def matmul(a: Array, b: Array) -> Array:
    a = dense("a", a)
    b = dense_as("b", b, a)
    _core.matmul_shape(a.shape, b.shape)
    return result(np.matmul(a, b), a)


@silent
def matmul_backward(
    dy: Array, a: Array, b: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]:
    a = dense("a", a)
    b = dense_as("b", b, a)
    dy = dense_as("dy", dy, a)
    require_shape("dy", dy, _core.matmul_shape(a.shape, b.shape))
    da = sum_to_shape(dy @ b.mT, a.shape) if needs[0] else None
    db = sum_to_shape(a.mT @ dy, b.shape) if needs[1] else None
    return da, db
