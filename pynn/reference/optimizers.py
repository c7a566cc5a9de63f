"""Updates of all parameters at once: arrays (size,), of which p and the state change in place.

The gradient that counts is g + weight_decay * p throughout. Settings are made Python floats, since
with NumPy's own float64 numbers the arithmetic of float32 arrays would be in float64.
"""

import math

import numpy as np

from pynn.errors import ShapeError
from pynn.reference.arrays import Array, dense, in_place, require_shape, silent


def _flat(g: Array) -> Array:
    g = dense("g", g)
    if g.ndim != 1:
        raise ShapeError(f"g must have one dimension, got shape {g.shape}")
    return g


def _checked(g: Array, **updated: Array | None) -> Array:
    """Return g, of whose dtype and shape every array that is there must be."""
    g = _flat(g)
    for name, array in updated.items():
        if array is not None:
            require_shape(name, in_place(name, array, g), g.shape)
    return g


@silent
def sgd_update(
    p: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    averaged: bool,
    weight_decay: float,
) -> None:
    """Momentum after Sutskever et al. 2013; `averaged` makes the velocity a running mean."""
    lr, momentum, weight_decay = map(float, (lr, momentum, weight_decay))
    g = _checked(g, p=p, velocity=velocity) + weight_decay * p
    if velocity is None:
        p -= lr * g
        return
    share = 1 - momentum if averaged else 1.0
    velocity[:] = momentum * velocity + share * g
    p -= lr * (share * g + momentum * velocity if nesterov else velocity)


@silent
def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Kingma and Ba 2015; `decoupled`: Loshchilov and Hutter 2019. `step` counts from 1."""
    if step < 1:
        raise ValueError(f"step must be 1 or more, got {step}")
    lr, beta1, beta2, eps, weight_decay = map(float, (lr, beta1, beta2, eps, weight_decay))
    g = _checked(g, p=p, m=m, v=v)
    if decoupled:
        p *= 1 - lr * weight_decay
    else:
        g = g + weight_decay * p
    m[:] = beta1 * m + (1 - beta1) * g
    v[:] = beta2 * v + (1 - beta2) * (g * g)
    step_size = lr / (1 - beta1**step)
    p -= step_size * m / (np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)


@silent
def rmsprop_update(
    p: Array,
    g: Array,
    square: Array,
    velocity: Array | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Tieleman and Hinton 2012, lecture 6.5; the momentum is that of PyTorch."""
    lr, alpha, eps = map(float, (lr, alpha, eps))
    momentum, weight_decay = float(momentum), float(weight_decay)
    g = _checked(g, p=p, square=square, velocity=velocity) + weight_decay * p
    square[:] = alpha * square + (1 - alpha) * (g * g)
    direction = g / (np.sqrt(square) + eps)
    if velocity is None:
        p -= lr * direction
        return
    velocity[:] = momentum * velocity + direction
    p -= lr * velocity


@silent
def sum_of_squares(g: Array) -> float:
    return float(np.sum(np.square(_flat(g), dtype=np.float64)))
