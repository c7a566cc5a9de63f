"""Matrix products, dense layers and the untied bias."""

from __future__ import annotations

from typing import Any

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, record, register


def matmul(a: Any, b: Any) -> Any:
    """Multiply matrices, as `numpy.matmul` does.

    Args:
        a: shape (..., M, K), float32 or float64.
        b: shape (..., K, N), same dtype; leading axes broadcast against those of a.

    Returns:
        y, shape (..., M, N).

    Raises:
        ShapeError: the inner sizes differ, or the leading axes do not broadcast.
        DTypeError: an array is neither float32 nor float64, or the dtypes differ.
    """
    if isinstance(a, Variable) or isinstance(b, Variable):
        return record("matmul", (a, b), {})
    return kernels().matmul(a, b)


def matmul_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Gradients of `matmul`.

    Args:
        dy: gradient with respect to y, shape (..., M, N).
        a, b: the arrays given to `matmul`.

    Returns:
        da, db, in the shapes of a and b.
    """
    da, db = kernels().matmul_backward(dy, a, b)
    return da, db


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """A dense layer: y = x w^T + b.

    Args:
        x: shape (N, I), or (..., I); float32 or float64.
        w: weights, shape (O, I), same dtype as x.
        b: bias, shape (O,), or None.

    Returns:
        y, shape (N, O), or (..., O).

    Raises:
        ShapeError: the sizes do not fit.
        DTypeError: an array is neither float32 nor float64, or the dtypes differ.
    """
    if isinstance(x, Variable):
        return record("linear", (x, w, b), {})
    return kernels().linear(x, w, b)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gradients of `linear`.

    Args:
        dy: gradient with respect to y, shape (N, O).
        x, w: the arrays given to `linear`.

    Returns:
        dx (N, I), dw (O, I), db (O,).
    """
    dx, dw, db = kernels().linear_backward(dy, x, w)
    return dx, dw, db


def bias(x: Any, b: Any) -> Any:
    """Add an untied bias: one value for each element of a sample, such as each output pixel and
    channel.

    Args:
        x: shape (N, ...), float32 or float64.
        b: shape (...), that of one sample; same dtype.

    Returns:
        y = x + b, shape (N, ...).

    Raises:
        ShapeError: b has not the shape of one sample.
    """
    if isinstance(x, Variable):
        return record("bias", (x, b), {})
    return kernels().bias(x, b)


def bias_backward(dy: Array) -> tuple[Array, Array]:
    """Gradients of `bias`: dx, shape (N, ...), and db, shape (...), the sum of dy over the
    batch."""
    dx, db = kernels().bias_backward(dy)
    return dx, db


register(
    Operator(
        name="matmul",
        shape=_core.matmul_shape,
        forward=lambda k, a, b: (k.matmul(a, b),),
        backward=lambda k, dy, inputs, outputs, needs: k.matmul_backward(dy, *inputs, needs),
    )
)
register(
    Operator(
        name="linear",
        shape=_core.linear_shape,
        forward=lambda k, x, w, b: (k.linear(x, w, b),),
        backward=lambda k, dy, inputs, outputs, needs: k.linear_backward(dy, *inputs[:2], needs),
    )
)
register(
    Operator(
        name="bias",
        shape=_core.bias_shape,
        forward=lambda k, x, b: (k.bias(x, b),),
        backward=lambda k, dy, inputs, outputs, needs: k.bias_backward(dy, needs),
    )
)
