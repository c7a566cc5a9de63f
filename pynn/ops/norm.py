"""Normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pynn import _core
from pynn.backends import kernels
from pynn.graph import Array, Operator, Shape, Variable, record, register


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise each channel (Ioffe, Szegedy, "Batch normalization", 2015), in PyTorch's
    conventions.

    y = (x - mean) / sqrt(var + eps) * weight + bias.

    Args:
        x: shape (N, C) or (N, C, H, W), float32 or float64.
        running_mean, running_var: shape (C,). In training, None or arrays that are updated in
            place: running = (1 - momentum) running + momentum batch, with the unbiased variance of
            the batch.
        weight, bias: shape (C,), or None.
        training: use mean and biased variance of the batch instead of the running ones.
        momentum: share of the new batch in the running statistics.
        eps: added to the variance.

    Returns:
        y, in the shape of x.

    Raises:
        ShapeError: the sizes do not fit, or a training batch has one value for each channel.
    """
    if isinstance(x, Variable):
        attributes = {"training": training, "momentum": momentum, "eps": eps}
        return record("batch_norm", (x, running_mean, running_var, weight, bias, None), attributes)
    y, mean, var = kernels().batch_norm(x, running_mean, running_var, weight, bias, training, eps)
    if training and running_mean is not None and running_var is not None:
        _update(running_mean, running_var, mean, var, x.shape, momentum)
    return y


def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    *,
    training: bool = False,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm`.

    Args:
        dy: gradient with respect to y, in the shape of x.
        x, weight: the arrays given to `batch_norm`.
        mean, var: those that were used, shape (C,): of the batch (biased) in training, otherwise
            the running ones.
        training: whether mean and var depend on x.
        eps: as given to `batch_norm`.

    Returns:
        dx (in the shape of x), dweight (C,), dbias (C,).
    """
    dx, dweight, dbias = kernels().batch_norm_backward(dy, x, mean, var, weight, training, eps)
    return dx, dweight, dbias


def _update(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    x_shape: Shape,
    momentum: float,
) -> None:
    count = int(np.prod(x_shape)) // x_shape[1] if x_shape[1] else 0
    if count < 2:  # an empty batch says nothing
        return
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)


def _commit(
    variables: Sequence[Any],
    outputs: Sequence[Array],
    x_shape: Shape,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> None:
    _, running_mean, running_var, _, _, batches = variables
    if training and running_mean is not None:
        _update(running_mean.data, running_var.data, outputs[1], outputs[2], x_shape, momentum)
    if training and batches is not None and 0 not in x_shape:
        batches.data += 1


def _backward(
    k: Any,
    dy: Array,
    inputs: Sequence[Any],
    outputs: Sequence[Array],
    needs: Sequence[bool],
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array | None, ...]:
    dx, dweight, dbias = k.batch_norm_backward(
        dy, inputs[0], outputs[1], outputs[2], inputs[3], training, eps, (needs[0], *needs[3:5])
    )
    return dx, None, None, dweight, dbias, None


register(
    Operator(
        name="batch_norm",
        shape=lambda x, running_mean, running_var, weight, bias, batches, *, training, **_: (
            _core.batch_norm_shape(x, running_mean, running_var, weight, bias, training)
        ),
        forward=lambda k, x, mean, var, weight, bias, batches, training, momentum, eps: (
            k.batch_norm(x, mean, var, weight, bias, training, eps)
        ),
        backward=_backward,
        commit=_commit,
        mixes_samples=True,
    )
)
