"""Operators that move values without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pynn import _core
from pynn.arguments import several
from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, record, register
from pynn.ops.conv import Padding


def flatten(x: Any, *, start_axis: int = 1) -> Any:
    """Join the axes from start_axis on into one.

    Args:
        x: shape (N, ...).
        start_axis: 1 or more: the batch axis stays.

    Returns:
        A copy, shape (N, F) for start_axis 1.
    """
    if isinstance(x, Variable):
        return record("flatten", (x,), {"start_axis": start_axis})
    return kernels().flatten(x, start_axis)


def reshape(x: Any, shape: Sequence[int]) -> Any:
    """Give x another shape, the batch axis excepted.

    Args:
        x: shape (N, ...).
        shape: the new shape; its first entry is N or -1, and one entry may be -1.

    Returns:
        A copy in the new shape.

    Raises:
        ShapeError: the sizes do not fit, or the batch axis would change.
    """
    if isinstance(x, Variable):
        return record("reshape", (x,), {"shape": tuple(shape)})
    return kernels().reshape(x, shape)


def concat(arrays: Sequence[Any], *, axis: int = 1) -> Any:
    """Join arrays along an axis.

    Args:
        arrays: one or more, equal in dtype and in shape but for the axis.
        axis: which one; 1 joins channels.

    Returns:
        y, whose size along the axis is the sum of theirs.
    """
    arrays = several("arrays", arrays)
    if any(isinstance(array, Variable) for array in arrays):
        return record("concat", tuple(arrays), {"axis": axis})
    return kernels().concat(arrays, axis)


def concat_backward(dy: Array, sizes: Sequence[int], *, axis: int = 1) -> list[Array]:
    """Gradients of `concat`: dy cut along the axis into the given sizes."""
    gradients: list[Array] = kernels().concat_backward(dy, sizes, axis)
    return gradients


def pad2d(x: Any, padding: Padding, *, value: float = 0.0) -> Any:
    """Put a border around images.

    Args:
        x: shape (N, C, H, W).
        padding: one int, (rows, columns), or (top, bottom, left, right).
        value: what the border holds.

    Returns:
        y, shape (N, C, H + top + bottom, W + left + right).
    """
    if isinstance(x, Variable):
        return record("pad2d", (x,), {"padding": padding, "value": value})
    return kernels().pad2d(x, padding, value)


def pad2d_backward(dy: Array, padding: Padding) -> Array:
    """Gradient of `pad2d`: dy without its border."""
    dx: Array = kernels().pad2d_backward(dy, padding)
    return dx


register(
    Operator(
        name="flatten",
        shape=_core.flatten_shape,
        forward=lambda k, x, start_axis: (k.flatten(x, start_axis),),
        backward=lambda k, dy, inputs, outputs, needs, start_axis: (
            k.reshape(dy, inputs[0].shape),
        ),
    )
)
register(
    Operator(
        name="reshape",
        shape=_core.reshape_shape,
        forward=lambda k, x, shape: (k.reshape(x, shape),),
        backward=lambda k, dy, inputs, outputs, needs, shape: (k.reshape(dy, inputs[0].shape),),
    )
)
register(
    Operator(
        name="concat",
        shape=lambda *shapes, axis: _core.concat_shape(shapes, axis),
        forward=lambda k, *arrays, axis: (k.concat(arrays, axis),),
        backward=lambda k, dy, inputs, outputs, needs, axis: tuple(
            k.concat_backward(dy, [array.shape[axis] for array in inputs], axis)
        ),
    )
)
register(
    Operator(
        name="pad2d",
        shape=lambda x, *, padding, value: _core.pad2d_shape(x, padding),
        forward=lambda k, x, padding, value: (k.pad2d(x, padding, value),),
        backward=lambda k, dy, inputs, outputs, needs, padding, value: (
            k.pad2d_backward(dy, padding),
        ),
    )
)
