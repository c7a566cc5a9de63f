"""a + b, with NumPy's broadcasting."""

from pynn import _core
from pynn.reference.arrays import Array, Shape, dense, dense_as, require_shape, result, silent
from pynn.reference.broadcasting import sum_to_shape


@silent
def add(a: Array, b: Array) -> Array:
    a = dense("a", a)
    b = dense_as("b", b, a)
    _core.broadcast_shape(a.shape, b.shape)
    return result(a + b, a)


@silent
def add_backward(
    dy: Array, a_shape: Shape, b_shape: Shape, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]:
    dy = dense("dy", dy)
    require_shape("dy", dy, _core.broadcast_shape(a_shape, b_shape))
    da = sum_to_shape(dy, a_shape) if needs[0] else None
    db = sum_to_shape(dy, b_shape) if needs[1] else None
    return da, db
