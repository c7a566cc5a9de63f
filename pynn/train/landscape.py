"""A loss over two of its weights, and the way of an optimiser across it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]
LossAndGradient = Callable[[Point], tuple[float, Point]]


def loss_slice(loss: LossAndGradient, x: Point, y: Point) -> Point:
    """The loss on a grid over two weights.

    Args:
        loss: gives loss and gradient (2,) at a point (2,).
        x, y: values of the two weights, shapes (M,) and (N,).

    Returns:
        Losses, shape (N, M).
    """
    return np.array([[loss(np.array([a, b]))[0] for a in x] for b in y])


def trajectory(
    loss: LossAndGradient, start: Point, *, lr: float, steps: int, momentum: float = 0.0
) -> tuple[Point, Point]:
    """The way of gradient descent: v = momentum v + lr g; p -= v.

    Args:
        loss: gives loss and gradient at a point.
        start: the first point, shape (2,).
        lr: learning rate.
        steps: how many.
        momentum: share of the last step that is kept.

    Returns:
        Points (steps + 1, 2) and their losses (steps + 1,).
    """
    point, velocity = np.array(start, dtype=np.float64), np.zeros(2)
    points, losses = [], []
    for _ in range(steps + 1):
        value, gradient = loss(point)
        points.append(point.copy())
        losses.append(value)
        velocity = momentum * velocity + lr * gradient
        point = point - velocity
    return np.array(points), np.array(losses)
