"""Callbacks that watch a training between the ends of its epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pynn.arguments import whole_number
from pynn.data.batches import Batches
from pynn.graph import Array, plain_array
from pynn.nn.losses import CrossEntropyLoss
from pynn.nn.module import Module, evaluating
from pynn.train.callbacks import Callback, Run
from pynn.train.evaluation import evaluate


class AccuracyEvery(Callback):
    """Measures accuracies in evaluation mode whenever so many samples have been trained on.

    Args:
        samples: between two measurements.
        parts: (x, y) of each part by name; x is scaled as `pynn.fit` scales what it trains on, if
            it is of the same dtype, and otherwise by 1/255 where it is uint8.

    Attributes:
        rows: {"samples": trained on so far, name: accuracy, ...} of each measurement.
    """

    def __init__(self, samples: int, parts: Mapping[str, tuple[Any, Any]]) -> None:
        for name, (_, y) in parts.items():
            if np.asarray(y).dtype.kind not in "ui":
                raise ValueError(f"accuracies need labels, which are integers: {name!r} has none")
        self.samples, self.parts = whole_number("samples", samples, 1), dict(parts)
        self.rows: list[dict[str, float]] = []
        self._seen = 0

    def on_begin(self, run: Run) -> None:
        """Forget an earlier training."""
        if run.epoch == 0:
            self.rows, self._seen = [], 0

    def on_batch_end(self, run: Run) -> None:
        """Measure, if it is time."""
        before = self._seen
        self._seen += len(run.step.output)
        if before // self.samples == self._seen // self.samples:
            return
        row = {"samples": float(self._seen)}
        loss = CrossEntropyLoss(ignore_index=getattr(run.step.loss, "ignore_index", None))
        for name, (x, y) in self.parts.items():
            array = plain_array("x", x)
            if array.dtype not in (np.uint8, np.float32, np.float64):
                array = run.model.as_input(array)
            batches = Batches(
                array, y, 500, shuffle=False, scale=run.scale_of(array), dtype=run.model.dtype,
                reuse=True,
            )  # fmt: skip
            row[name] = evaluate(run.model, loss, batches).get("accuracy", math.nan)
        self.rows.append(row)

    def state_dict(self) -> dict[str, Any]:
        """All measurements, and how many samples have been trained on."""
        return {"rows": self.rows, "seen": self._seen}

    def load(self, state: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Go on where a checkpoint stands."""
        self.rows, self._seen = list(state["rows"]), int(state["seen"])


class Divergence(Callback):
    """Notices that a loss has exceeded a multiple of its first value; training ends with the epoch.

    Args:
        factor: the multiple.

    Attributes:
        message: what happened; None while all is well.
    """

    def __init__(self, factor: float = 100.0) -> None:
        self.factor = factor
        self.message: str | None = None
        self._first: float | None = None

    def on_begin(self, run: Run) -> None:
        """Forget an earlier training."""
        if run.epoch == 0:
            self.message = self._first = None

    def on_batch_end(self, run: Run) -> None:
        """Compare this loss with the first."""
        loss = run.step.last_finite_loss
        if loss is None or self.message is not None:
            return
        if self._first is None:
            self._first = loss
        if loss > self.factor * self._first:
            self.message = (
                f"the loss is {loss:.3g} at step {run.step.steps}, more than {self.factor:g} times "
                f"its first value {self._first:.3g} (learning rate {run.optimizer.lr:g})"
            )
            run.stop = True

    def state_dict(self) -> dict[str, Any]:
        """The first loss, and what happened."""
        return {"first": self._first, "message": self.message}

    def load(self, state: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Go on where a checkpoint stands."""
        self._first, self.message = state["first"], state["message"]


def clipped_cross_entropy(model: Module, x: Array, y: Array, floor: float) -> float:
    """The mean cross-entropy of labels where no probability counts as less than a floor.

    Args:
        model: gives logits (N, classes); run in evaluation mode.
        x: inputs (N, ...); uint8 images are scaled by 1/255.
        y: labels (N,).
        floor: the least probability.

    Returns:
        The mean of -log(max(p, floor)), computed in float64.
    """
    total = 0.0
    with evaluating(model):
        for images, labels in Batches(x, y, 500, shuffle=False, dtype=model.dtype, reuse=True):
            logits = np.asarray(model(images), np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            chosen = logits[np.arange(len(labels)), labels]
            log_p = chosen - np.log(np.exp(logits).sum(axis=1))
            total -= float(np.maximum(log_p, math.log(floor)).sum())
    return total / len(y)
