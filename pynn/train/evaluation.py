"""Loss and accuracy of a model on data it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np

from pynn.arguments import require_kind, whole_number
from pynn.data.batches import Batches
from pynn.errors import ShapeError
from pynn.graph import Array, Shape, plain_array
from pynn.nn.losses import Loss
from pynn.nn.module import Module, evaluating


def are_labels(target: Array, output: Shape) -> bool:
    """Whether a target (N, ...) has the labels of an output (N, C, ...), whatever N is."""
    return target.dtype.kind in "ui" and len(output) >= 2 and target.shape[1:] == output[2:]


def count_correct(
    output: Array, target: Any, ignore_index: int | None = None
) -> tuple[int, int] | None:
    """How many rows of output (N, C, ...) are largest at their label (N, ...), and how many there
    are, those with the label ignore_index left out; None where target holds no labels."""
    labels = np.asarray(target)
    if labels.shape[:1] != output.shape[:1] or not are_labels(labels, output.shape):
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
        """The mean loss of a sample; nan where none counts."""
        return self._sum / self._weight if self._weight else math.nan

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
        that are largest at their label, out of those that the loss does not ignore. Where it
        ignores all, the loss is nan.

    Raises:
        TypeError: data is neither, or another argument is not of its kind.
        ValueError: data has no batch, such as an iterator that has been read before.
        ShapeError: the model or the loss refuses a batch.
    """
    require_kind("model", model, Module)
    require_kind("loss", loss, Loss)
    batch_size = whole_number("batch_size", batch_size, 1)
    check_data("data", data)
    means = Means(loss)
    output = None
    with evaluating(model):
        for x, y in _batches(data, batch_size):
            output = model(x)
            value, _ = loss.value_and_gradient(output, y)
            means.add(value, output, y)
    if output is None:
        raise no_batch("data", data)
    return means.row("")


def checked_pair(name: str, data: Any, remark: str = "") -> tuple[Any, Any]:
    """The two parts of data that must be (x, y); the remark is for the error."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(
            f"{name} must be (x, y){remark}, got a {type(data).__name__}"
            + (f" of {len(data)}" if isinstance(data, (tuple, list)) else "")
        )
    return data[0], data[1]


def check_data(name: str, data: Any) -> tuple[Array, Array] | None:
    """Refuse what `evaluate` cannot take, as far as it shows before a batch is read.

    Returns:
        Samples and their targets; None where they do not show.
    """
    if isinstance(data, tuple):
        samples = _arrays(name, data)
        if not len(samples[0]):
            raise no_batch(name, data)
        return samples
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        checked_pair(name, data, " or batches of them")
    if isinstance(data, Sized) and not len(data):
        raise no_batch(name, data)
    if isinstance(data, Batches):
        return data.images, data.labels
    if not isinstance(data, (list, np.ndarray)):
        return None
    batches = [_checked_batch(name, data, number, batch) for number, batch in enumerate(data)]
    x, y = batches[0]
    return plain_array("x", x), plain_array("y", y)


def no_batch(name: str, data: Any) -> ValueError:
    """The error that says so."""
    why = ""
    if isinstance(data, Batches):
        why = f": {len(data.images)} samples, batch size {data.batch_size}"
    elif isinstance(data, tuple):
        why = ": 0 samples"
    elif isinstance(data, Iterator):
        why = f": a {type(data).__name__} gives its batches only once"
    return ValueError(f"{name} has no batch{why}")


def _checked_batch(name: str, data: Any, number: int, batch: Any) -> tuple[Any, Any]:
    return checked_pair(
        f"batch {number} of {name}", batch, f", since {name} is a {type(data).__name__}"
    )


def _arrays(name: str, data: Any) -> tuple[Array, Array]:
    pair = checked_pair(name, data, " or batches of them")
    x, y = (plain_array(each, value) for each, value in zip("xy", pair, strict=True))
    counts = [str(len(array)) if array.ndim else "no" for array in (x, y)]
    if counts[0] != counts[1] or "no" in counts:
        raise ShapeError(f"x has {counts[0]} samples but y has {counts[1]}")
    return x, y


def _batches(data: Any, batch_size: int) -> Iterator[tuple[Array, Any]]:
    if not isinstance(data, tuple):
        for number, batch in enumerate(data):
            yield _checked_batch("data", data, number, batch)
        return
    x, y = _arrays("data", data)
    for begin in range(0, len(x), batch_size):
        yield x[begin : begin + batch_size], y[begin : begin + batch_size]
