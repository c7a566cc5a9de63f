"""x (N, C) or (N, C, H, W), normalised over all axes but 1.

Ioffe and Szegedy, "Batch normalization", ICML 2015, whose formulas the backward follows too.
Statistics and sums are in float64; var is the biased variance.
"""

import numpy as np

from pynn import _core
from pynn.reference.arrays import (
    Array,
    dense,
    dense_as,
    optional_dense_as,
    require_shape,
    result,
    shape_of,
    silent,
)


def _mean_over_batch(x: Array) -> Array:
    """(N, C, ...) -> (C,); zeros for an empty batch."""
    axes = (0, *range(2, x.ndim))
    count = x.size // max(x.shape[1], 1)
    return np.divide(np.sum(x, axis=axes, dtype=np.float64), max(count, 1))


def _per_channel(value: Array, x: Array) -> Array:
    """(C,) -> a shape that broadcasts against x."""
    return value.reshape(-1, *(1,) * (x.ndim - 2))


@silent
def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    eps: float,
) -> tuple[Array, Array, Array]:
    x = dense("x", x)
    running_mean = optional_dense_as("running_mean", running_mean, x)
    running_var = optional_dense_as("running_var", running_var, x)
    weight = optional_dense_as("weight", weight, x)
    bias = optional_dense_as("bias", bias, x)
    _core.batch_norm_shape(
        x.shape,
        shape_of(running_mean),
        shape_of(running_var),
        shape_of(weight),
        shape_of(bias),
        training,
    )
    if training:
        mean = _mean_over_batch(x)
        var = _mean_over_batch((x - _per_channel(mean, x)) ** 2)
    else:
        assert running_mean is not None
        assert running_var is not None  # by batch_norm_shape
        mean, var = running_mean.copy(), running_var.copy()
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    if weight is not None:
        scale *= weight
    y = (x - _per_channel(mean, x)) * _per_channel(scale, x)
    if bias is not None:
        y += _per_channel(bias, x)
    return result(y, x), result(mean, x), result(var, x)


@silent
def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    training: bool,
    eps: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    x = dense("x", x)
    dy = dense_as("dy", dy, x)
    mean = dense_as("mean", mean, x)
    var = dense_as("var", var, x)
    weight = optional_dense_as("weight", weight, x)
    _core.batch_norm_shape(x.shape, mean.shape, var.shape, shape_of(weight), None, training)
    require_shape("dy", dy, x.shape)

    inverse_deviation = 1 / np.sqrt(var.astype(np.float64) + eps)
    normalised = (x - _per_channel(mean, x)) * _per_channel(inverse_deviation, x)
    mean_dy, mean_dy_normalised = _mean_over_batch(dy), _mean_over_batch(dy * normalised)
    count = x.size // max(x.shape[1], 1)
    dx = None
    if needs[0]:
        scale = inverse_deviation if weight is None else inverse_deviation * weight
        through_y = dy
        if training:  # the mean and the variance of the batch depend on x too
            through_y = (
                dy - _per_channel(mean_dy, x) - normalised * _per_channel(mean_dy_normalised, x)
            )
        dx = result(through_y * _per_channel(scale, x), x)
    dweight = result(mean_dy_normalised * count, x) if needs[1] else None
    dbias = result(mean_dy * count, x) if needs[2] else None
    return dx, dweight, dbias
