"""Sums and products, element by element, with NumPy's broadcasting. In forward they are `+` and
`*`."""

from __future__ import annotations

from typing import Any

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, record, register


def add(a: Any, b: Any) -> Any:
    """The sum y = a + b. a, b: shapes that broadcast, same dtype, float32 or float64; y in the
    common shape."""
    if isinstance(a, Variable) or isinstance(b, Variable):
        return record("add", (a, b), {})
    return kernels().add(a, b)


def add_backward(
    dy: Array, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Gradients of `add`: da, db, in the shapes given; dy summed over the axes that broadcast."""
    da, db = kernels().add_backward(dy, a_shape, b_shape)
    return da, db


def mul(a: Any, b: Any) -> Any:
    """The product y = a * b. a, b: shapes that broadcast, same dtype, float32 or float64; y in the
    common shape."""
    if isinstance(a, Variable) or isinstance(b, Variable):
        return record("mul", (a, b), {})
    return kernels().mul(a, b)


def mul_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Gradients of `mul`: da, db, in the shapes of a and b; summed over the axes that broadcast."""
    da, db = kernels().mul_backward(dy, a, b)
    return da, db


register(
    Operator(
        name="add",
        shape=_core.broadcast_shape,
        forward=lambda k, a, b: (k.add(a, b),),
        backward=lambda k, dy, inputs, outputs, needs: k.add_backward(
            dy, inputs[0].shape, inputs[1].shape, needs
        ),
    )
)
register(
    Operator(
        name="mul",
        shape=_core.broadcast_shape,
        forward=lambda k, a, b: (k.mul(a, b),),
        backward=lambda k, dy, inputs, outputs, needs: k.mul_backward(dy, *inputs, needs),
    )
)
