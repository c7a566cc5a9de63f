"""A model's loss over two of its weights, and the paths that optimisers take there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynn import executors
from pynn.errors import NonFiniteError
from pynn.graph import Stored
from pynn.nn.losses import Loss
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter
from pynn.optim.optimizer import Optimizer

Floats = NDArray[np.float64]
Weight = tuple[str, tuple[int, ...]]


class Trajectory(NamedTuple):
    """The path of an optimiser.

    Attributes:
        points: where it was before the first update and after each, shape (updates + 1, 2).
        losses: the loss there, shape (updates + 1,).
    """

    points: Floats
    losses: Floats


class LossSlice:
    """The loss of a model as a function of two of its weights, all others fixed.

    The model is copied, converted to float64 and put into evaluation mode.

    Args:
        model: usually a trained one.
        loss: such as nn.CrossEntropyLoss().
        x, y: the data whose loss it is, (N, ...) each.
        weights: two of (name of a parameter, index in it), such as ("0.weight", (3, 405)).

    Attributes:
        origin: the values of the two weights in the model, shape (2,).

    Raises:
        ValueError: not two different weights, or a name or an index that the model does not have.
    """

    def __init__(
        self, model: Module, loss: Loss, x: ArrayLike, y: ArrayLike, weights: Sequence[Weight]
    ) -> None:
        if len(weights) != 2 or weights[0] == weights[1]:
            raise ValueError(f"a slice takes two different weights, got {list(weights)}")
        self._model = copy.deepcopy(model).astype("float64").eval()
        self._loss, self._x, self._y = loss, self._model.as_input(x), np.asarray(y)
        parameters = dict(self._model.named_parameters())
        self._weights: list[tuple[Parameter, tuple[int, ...]]] = []
        for name, index in weights:
            if name not in parameters:
                raise ValueError(f"the model has no {name!r}, only {', '.join(parameters)}")
            shape = parameters[name].shape
            if len(index) != len(shape) or not all(
                0 <= i < size for i, size in zip(index, shape, strict=True)
            ):
                raise ValueError(f"{name} has shape {shape}, and no weight at {tuple(index)}")
            self._weights.append((parameters[name], tuple(index)))
        self.origin: Floats = np.array([p.data[index] for p, index in self._weights])

    def __call__(self, point: ArrayLike) -> float:
        """The loss with the two weights at `point`, (2,)."""
        self._move(point)
        return self._loss.value_and_gradient(self._model(self._x), self._y)[0]

    def gradient(self, point: ArrayLike) -> tuple[float, Floats]:
        """The loss at `point`, (2,), and its gradient with respect to the two weights, (2,)."""
        self._move(point)
        graph, tape = self._model._run_forward([self._x], self._sliced, input_gradient=False)
        value, dy = self._loss.value_and_gradient(tape.output, self._y)
        gradients = dict(executors.backward(graph, tape, dy).variables)
        return value, np.array([gradients[p][index] for p, index in self._weights])

    def values(self, first: ArrayLike, second: ArrayLike) -> Floats:
        """The loss on a grid.

        Args:
            first, second: values of the two weights, shapes (M,) and (N,).

        Returns:
            shape (N, M), as contour plots take it.
        """
        return np.array([[self((a, b)) for a in np.asarray(first)] for b in np.asarray(second)])

    def trajectory(
        self,
        start: ArrayLike,
        optimizer: Callable[[list[Parameter]], Optimizer],
        updates: int,
    ) -> Trajectory:
        """Train the two weights, and them alone, on all of the data at each update.

        Args:
            start: where, (2,).
            optimizer: makes the optimiser of the parameters it is given, such as `lambda
                parameters: optim.SGD(parameters, lr=0.1, momentum=0.9)`.
            updates: how many.

        Raises:
            NonFiniteError: the loss is not finite at a point.
        """
        position = Parameter(np.array(start, np.float64))
        rule = optimizer([position])
        points, losses = [], []
        for update in range(updates + 1):
            value, gradient = self.gradient(position.data)
            points.append(position.data.copy())
            losses.append(value)
            if not math.isfinite(value):
                raise NonFiniteError(f"the loss is {value} after {update} updates from {points[0]}")
            position.grad = gradient
            rule.step()
        return Trajectory(np.array(points), np.array(losses))

    def _move(self, point: ArrayLike) -> None:
        for (parameter, index), value in zip(self._weights, np.asarray(point), strict=True):
            parameter.data[index] = value

    def _sliced(self, variable: Stored) -> bool:
        return any(variable is parameter for parameter, _ in self._weights)
