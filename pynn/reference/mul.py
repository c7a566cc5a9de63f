"""a * b, with NumPy's broadcasting."""

from pynn import _core
from pynn.reference.arrays import Array, dense, dense_as, require_shape, result, silent
from pynn.reference.broadcasting import sum_to_shape


@silent
def mul(a: Array, b: Array) -> Array:
    a = dense("a", a)
    b = dense_as("b", b, a)
    _core.broadcast_shape(a.shape, b.shape)
    return result(a * b, a)


@silent
def mul_backward(
    dy: Array, a: Array, b: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]:
    a = dense("a", a)
    b = dense_as("b", b, a)
    dy = dense_as("dy", dy, a)
    require_shape("dy", dy, _core.broadcast_shape(a.shape, b.shape))
    da = sum_to_shape(dy * b, a.shape) if needs[0] else None
    db = sum_to_shape(dy * a, b.shape) if needs[1] else None
    return da, db
