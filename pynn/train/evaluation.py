"""Loss and accuracy of a model on data it is not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pynn.errors import ShapeError
from pynn.graph import Array, plain_array
from pynn.nn.losses import Loss
from pynn.nn.module import Module, evaluating


def count_correct(
    output: Array, target: Any, ignore_index: int | None = None
) -> tuple[int, int] | None:
    """How many rows of output (N, C, ...) are largest at their label (N, ...), and how many there
    are, those with the label ignore_index left out; None where target holds no labels."""
    labels = np.asarray(target)
    if (
        labels.dtype.kind not in "ui"
        or output.ndim < 2
        or labels.shape != output.shape[:1] + output.shape[2:]
    ):
        return None
    correct = output.argmax(axis=1) == labels
    if ignore_index is not None:
        correct = correct[labels != ignore_index]
    return int(np.count_nonzero(correct)), correct.size


class Means:
    """Means over batches of the loss and, where there are labels, of the accuracy."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._sum, self._weight = loss, 0.0, 0.0
        self._correct, self._labels = 0, 0

    def add(self, value: float, output: Array, target: Any) -> None:
        """Take one batch into account."""
        weight = self._loss.count(target)
        averaged = getattr(self._loss, "reduction", "mean") == "mean"
        self._sum += value * weight if averaged else value
        self._weight += weight
        counts = count_correct(output, target, getattr(self._loss, "ignore_index", None))
        if counts is not None:
            self._correct += counts[0]
            self._labels += counts[1]

    @property
    def loss(self) -> float:
        """The mean loss of a sample; 0 where there was none."""
        return self._sum / self._weight if self._weight else 0.0

    def row(self, prefix: str) -> dict[str, float]:
        """{prefix}loss and, where there were labels, {prefix}accuracy."""
        row = {f"{prefix}loss": self.loss}
        if self._labels:
            row[f"{prefix}accuracy"] = self._correct / self._labels
        return row


def evaluate(
    model: Module,
    loss: Loss,
    data: tuple[Array, Any] | Iterable[tuple[Array, Any]],
    *,
    batch_size: int = 256,
) -> dict[str, float]:
    """Measure a model in evaluation mode.

    Args:
        model, loss: as in training.
        data: (x, y), or batches of them such as a `data.Batches`.
        batch_size: how many samples of (x, y) run at once.

    Returns:
        A dictionary with "loss" and, where y holds integer labels, "accuracy", the share of rows
        that are largest at their label, out of those that the loss does not ignore.
    """
    means = Means(loss)
    with evaluating(model):
        for x, y in _batches(data, batch_size):
            output = model(x)
            value, _ = loss.value_and_gradient(output, y)
            means.add(value, output, y)
    return means.row("")


def _batches(data: Any, batch_size: int) -> Iterator[tuple[Array, Any]]:
    if not isinstance(data, tuple):
        yield from data
        return
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    x, y = (plain_array(name, value) for name, value in zip("xy", data, strict=True))
    if y.ndim == 0 or len(x) != len(y):
        raise ShapeError(f"x has {len(x)} samples but y has {len(y) if y.ndim else 'no'}")
    for begin in range(0, len(x), batch_size):
        yield x[begin : begin + batch_size], y[begin : begin + batch_size]
