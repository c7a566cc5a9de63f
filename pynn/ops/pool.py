"""Pooling."""

from __future__ import annotations

from typing import Any

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, record, register
from pynn.ops.conv import Padding, Pair


def max_pool2d(
    x: Any,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window. NaN counts as largest; of equal values the first (row by
    row) wins.

    Args:
        x: images, shape (N, C, H, W), float32 or float64.
        kernel_size: size of the window: one int, or (rows, columns).
        stride: distance between windows; None means kernel_size, so that windows tile the image.
        padding: as for `conv2d`, smaller than the window; padded places never win.
        ceil_mode: also keep the last windows that reach over the edge, if they start inside.
        return_indices: also return where each value came from.

    Returns:
        y, shape (N, C, OH, OW); with return_indices, (y, indices), indices int64 in the shape of y,
        flat ones in H x W.

    Raises:
        ShapeError: the sizes do not fit.
    """
    attributes = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    if isinstance(x, Variable):
        if return_indices:
            raise TypeError(
                "max_pool2d: return_indices works on arrays; in forward, indices are not a value"
            )
        return record("max_pool2d", (x,), {"kernel_size": kernel_size, **attributes})
    y, argmax = kernels().max_pool2d(x, kernel_size, stride, padding, ceil_mode)
    return (y, argmax) if return_indices else y


def max_pool2d_backward(dy: Array, indices: Array, x_shape: tuple[int, ...]) -> Array:
    """Gradient of `max_pool2d`: each dy goes to where its maximum came from.

    Args:
        dy: gradient with respect to y, shape (N, C, OH, OW).
        indices: as `max_pool2d` returns them.
        x_shape: (N, C, H, W).

    Returns:
        dx, shape (N, C, H, W).
    """
    dx: Array = kernels().max_pool2d_backward(dy, indices, x_shape)
    return dx


def avg_pool2d(
    x: Any,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window.

    Args:
        x: images, shape (N, C, H, W), float32 or float64.
        kernel_size, stride, padding, ceil_mode: as for `max_pool2d`.
        count_include_pad: whether padding zeros count in the mean, as PyTorch has it.

    Returns:
        y, shape (N, C, OH, OW).
    """
    attributes = {
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    if isinstance(x, Variable):
        return record("avg_pool2d", (x,), {"kernel_size": kernel_size, **attributes})
    return kernels().avg_pool2d(x, kernel_size, **attributes)


def avg_pool2d_backward(
    dy: Array,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool2d`: dx, shape x_shape = (N, C, H, W), from dy, shape (N, C, OH, OW)."""
    dx: Array = kernels().avg_pool2d_backward(
        dy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad
    )
    return dx


def global_avg_pool2d(x: Any) -> Any:
    """The mean over each whole image.

    Args:
        x: shape (N, C, H, W), float32 or float64.

    Returns:
        y, shape (N, C, 1, 1).
    """
    if isinstance(x, Variable):
        return record("global_avg_pool2d", (x,), {})
    return kernels().global_avg_pool2d(x)


def global_avg_pool2d_backward(dy: Array, x_shape: tuple[int, ...]) -> Array:
    """Gradient of `global_avg_pool2d`: dx, shape x_shape = (N, C, H, W), from dy, shape (N, C, 1,
    1)."""
    dx: Array = kernels().global_avg_pool2d_backward(dy, x_shape)
    return dx


def _avg_pool2d_shape(x: tuple[int, ...], *, count_include_pad: bool, **attributes: Any) -> Any:
    return _core.pool2d_geometry(x, **attributes)[0]


register(
    Operator(
        name="max_pool2d",
        shape=lambda x, **attributes: _core.pool2d_geometry(x, **attributes)[0],
        forward=lambda k, x, **attributes: k.max_pool2d(x, **attributes),
        backward=lambda k, dy, inputs, outputs, needs, **attributes: (
            k.max_pool2d_backward(dy, outputs[1], inputs[0].shape),
        ),
    )
)
register(
    Operator(
        name="avg_pool2d",
        shape=_avg_pool2d_shape,
        forward=lambda k, x, **attributes: (k.avg_pool2d(x, **attributes),),
        backward=lambda k, dy, inputs, outputs, needs, **attributes: (
            k.avg_pool2d_backward(dy, inputs[0].shape, **attributes),
        ),
    )
)
register(
    Operator(
        name="global_avg_pool2d",
        shape=_core.global_avg_pool2d_shape,
        forward=lambda k, x: (k.global_avg_pool2d(x),),
        backward=lambda k, dy, inputs, outputs, needs: (
            k.global_avg_pool2d_backward(dy, inputs[0].shape),
        ),
    )
)
