"""Activations. Each backward takes what forward made of x (y), or x itself, whichever it needs."""

from __future__ import annotations

from typing import Any

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Shape, Variable, record, register


def relu(x: Any) -> Any:
    """max(x, 0), element by element; NaN stays NaN. x: any shape, float32 or float64; y in the same
    shape."""
    if isinstance(x, Variable):
        return record("relu", (x,), {})
    return kernels().relu(x)


def relu_backward(dy: Array, y: Array) -> Array:
    """Gradient of `relu`: dx = dy where y > 0, else 0."""
    dx: Array = kernels().relu_backward(dy, y)
    return dx


def leaky_relu(x: Any, *, negative_slope: float = 0.01) -> Any:
    """Let a share of negative values through: y = x where x > 0, else negative_slope * x.

    x: any shape, float32 or float64; y in the same shape."""
    if isinstance(x, Variable):
        return record("leaky_relu", (x,), {"negative_slope": negative_slope})
    return kernels().leaky_relu(x, negative_slope)


def leaky_relu_backward(dy: Array, x: Array, *, negative_slope: float = 0.01) -> Array:
    """Gradient of `leaky_relu`: dx = dy where x > 0, else negative_slope * dy."""
    dx: Array = kernels().leaky_relu_backward(dy, x, negative_slope)
    return dx


def tanh(x: Any) -> Any:
    """Hyperbolic tangent, element by element. x: any shape, float32 or float64; y in the same
    shape."""
    if isinstance(x, Variable):
        return record("tanh", (x,), {})
    return kernels().tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """Gradient of `tanh`: dx = dy (1 - y^2)."""
    dx: Array = kernels().tanh_backward(dy, y)
    return dx


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), element by element. x: any shape, float32 or float64; y in the same
    shape."""
    if isinstance(x, Variable):
        return record("sigmoid", (x,), {})
    return kernels().sigmoid(x)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """Gradient of `sigmoid`: dx = dy y (1 - y)."""
    dx: Array = kernels().sigmoid_backward(dy, y)
    return dx


def softmax(x: Any, *, axis: int = 1) -> Any:
    """exp(x) / sum of exp(x) along an axis, without overflow for large x.

    Args:
        x: any shape, float32 or float64.
        axis: the axis whose values become shares of 1; negative counts from the end.

    Returns:
        y, in the shape of x.

    Raises:
        ShapeError: x has no such axis.
    """
    if isinstance(x, Variable):
        return record("softmax", (x,), {"axis": axis})
    return kernels().softmax(x, axis)


def softmax_backward(dy: Array, y: Array, *, axis: int = 1) -> Array:
    """Gradient of `softmax`: dx = y (dy - sum of dy y along the axis)."""
    dx: Array = kernels().softmax_backward(dy, y, axis)
    return dx


def log_softmax(x: Any, *, axis: int = 1) -> Any:
    """The logarithm of `softmax`, computed without rounding small shares to zero first.

    Args:
        x: any shape, float32 or float64.
        axis: as for `softmax`.

    Returns:
        y, in the shape of x.
    """
    if isinstance(x, Variable):
        return record("log_softmax", (x,), {"axis": axis})
    return kernels().log_softmax(x, axis)


def log_softmax_backward(dy: Array, y: Array, *, axis: int = 1) -> Array:
    """Gradient of `log_softmax`: dx = dy - exp(y) (sum of dy along the axis)."""
    dx: Array = kernels().log_softmax_backward(dy, y, axis)
    return dx


def _same_shape(x: Shape, **attributes: Any) -> Shape:
    return x


for _name in ("relu", "tanh", "sigmoid"):
    register(
        Operator(
            name=_name,
            shape=_same_shape,
            forward=lambda k, x, name=_name: (getattr(k, name)(x),),
            backward=lambda k, dy, inputs, outputs, needs, name=_name: (
                getattr(k, f"{name}_backward")(dy, outputs[0]),
            ),
        )
    )
register(
    Operator(
        name="leaky_relu",
        shape=_same_shape,
        forward=lambda k, x, negative_slope: (k.leaky_relu(x, negative_slope),),
        backward=lambda k, dy, inputs, outputs, needs, negative_slope: (
            k.leaky_relu_backward(dy, inputs[0], negative_slope),
        ),
    )
)
for _name in ("softmax", "log_softmax"):
    register(
        Operator(
            name=_name,
            shape=_core.softmax_shape,
            forward=lambda k, x, axis, name=_name: (getattr(k, name)(x, axis),),
            backward=lambda k, dy, inputs, outputs, needs, axis, name=_name: (
                getattr(k, f"{name}_backward")(dy, outputs[0], axis),
            ),
        )
    )
