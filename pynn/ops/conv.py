"""Convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, record, register

Pair = int | Sequence[int]
Padding = int | Sequence[int] | str


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlate a batch of images with a bank of kernels.

    Args:
        x: images, shape (N, C, H, W), float32 or float64.
        w: kernels, shape (O, C / groups, KH, KW), same dtype as x.
        b: bias, shape (O,), or None.
        stride: one int, or (rows, columns).
        padding: zeros around the image: one int, (rows, columns), (top, bottom, left, right),
            "valid" (none), "same" (OH = ceil(H / stride); an odd total puts the extra row or column
            at the bottom or right) or "full" (every position where the kernel touches the image).
        dilation: distance between the taps of a kernel: one int, or (rows, columns).
        groups: channels and kernels are split into this many independent groups.

    Returns:
        y, shape (N, O, OH, OW), with OH = (H + top + bottom - dilation (KH - 1) - 1) // stride + 1,
        and OW likewise. Rows and columns that a stride does not reach are left out.

    Raises:
        ShapeError: the sizes do not fit.
        DTypeError: an array is neither float32 nor float64, or the dtypes differ.
    """
    if isinstance(x, Variable):
        attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return record("conv2d", (x, w, b), attributes)
    return kernels().conv2d(x, w, b, stride, padding, dilation, groups)


def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Gradients of `conv2d`.

    Args:
        dy: gradient with respect to y, shape (N, O, OH, OW).
        x, w: the arrays given to `conv2d`.
        stride, padding, dilation, groups: as given to `conv2d`.

    Returns:
        dx (N, C, H, W), dw (O, C / groups, KH, KW), db (O,).
    """
    dx, dw, db = kernels().conv2d_backward(dy, x, w, stride, padding, dilation, groups)
    return dx, dw, db


register(
    Operator(
        name="conv2d",
        shape=lambda x, w, b, **attributes: _core.conv2d_geometry(x, w, b, **attributes)[0],
        forward=lambda k, x, w, b, **attributes: (k.conv2d(x, w, b, **attributes),),
        backward=lambda k, dy, inputs, outputs, needs, **attributes: k.conv2d_backward(
            dy, *inputs[:2], needs=needs, **attributes
        ),
    )
)
