"""What happens beside training: at the end of batches and epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pynn.arguments import real_number, whole_number
from pynn.data.batches import Batches
from pynn.graph import Array, plain_array
from pynn.nn.module import Module
from pynn.optim.optimizer import Optimizer
from pynn.optim.schedules import AnySchedule
from pynn.train.history import History
from pynn.train.step import CompiledStep


@dataclass
class Run:
    """A training under way, as callbacks see it.

    Attributes:
        epoch: epochs finished.
        batch: batches finished in this epoch, of `batches`.
        source: what the batches are of.
        loss: mean training loss of this epoch so far.
        stop: set it to end training after this epoch.
    """

    model: Module
    optimizer: Optimizer
    step: CompiledStep
    schedule: AnySchedule | None
    history: History
    epochs: int
    batches: int
    seed: int
    epoch: int = 0
    batch: int = 0
    loss: float = math.nan
    stop: bool = False
    callbacks: list[Callback] = field(default_factory=list)
    source: Batches | None = None

    def scale_of(self, x: Any) -> float | None:
        """What training multiplies samples by; None where its own are of another dtype."""
        dtype = plain_array("x", x).dtype.newbyteorder("=")
        if self.source is None or self.source.images.dtype != dtype:
            return None
        return self.source.scale

    def as_trained(self, data: Any) -> Any:
        """Data for `evaluate`: of (x, y), x is scaled as training scales what is of its dtype."""
        if not isinstance(data, tuple) or self.scale_of(data[0]) in (None, 1.0):
            return data
        x, y = data
        return Batches(
            np.asarray(x), y, 256, shuffle=False, scale=self.scale_of(x), dtype=self.model.dtype,
            reuse=True,
        )  # fmt: skip


class Callback:
    """Base of callbacks: override what is of interest."""

    def on_begin(self, run: Run) -> None:
        """Before the first batch, after a checkpoint was resumed."""

    def on_batch_end(self, run: Run) -> None:
        """After each batch."""

    def on_epoch_end(self, run: Run) -> None:
        """After each epoch; its row is the last of run.history."""

    def on_end(self, run: Run) -> None:
        """After the last epoch, and after an error."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values that a checkpoint keeps."""
        return {}

    def tensors(self) -> dict[str, Array]:
        """Arrays that a checkpoint keeps."""
        return {}

    def load(self, state: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Take over what `state_dict` and `tensors` gave."""


class EarlyStopping(Callback):
    """End training when a column of the history has stopped improving.

    Args:
        monitor: the column, such as "valid_loss" or "valid_accuracy".
        patience: epochs without improvement that are tolerated.
        min_delta: how much better counts as better.
        mode: "min" or "max"; "auto" takes "max" for accuracies.
        restore_best: give the model, at the end, the parameters of the best epoch.

    Attributes:
        best: the best value, best_epoch the epoch it came from.
    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor, self.restore_best = monitor, restore_best
        self.patience = whole_number("patience", patience, 0)
        self.min_delta = real_number("min_delta", min_delta)
        self.sign = -1.0 if mode == "max" or (mode == "auto" and "accuracy" in monitor) else 1.0
        self.best: float | None = None
        self.best_epoch = 0
        self._weights: dict[str, Array] = {}

    def on_begin(self, run: Run) -> None:
        """Forget an earlier training."""
        if run.epoch == 0:
            self.best, self.best_epoch, self._weights = None, 0, {}

    def on_epoch_end(self, run: Run) -> None:
        """Compare this epoch with the best."""
        row = run.history.rows[-1]
        if self.monitor not in row:
            raise ValueError(
                f"EarlyStopping watches {self.monitor!r}, but the history has only {', '.join(row)}"
            )
        value = row[self.monitor]
        best = math.inf if self.best is None else self.sign * self.best
        if self.sign * value < best - self.min_delta:  # never where the value is not a number
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self._weights = run.model.state_dict()
        elif run.epoch - self.best_epoch > self.patience:
            run.stop = True

    def on_end(self, run: Run) -> None:
        """Restore the best epoch's parameters."""
        if self.restore_best and self._weights:
            run.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def tensors(self) -> dict[str, Array]:
        """The parameters of the best epoch."""
        return self._weights

    def load(self, state: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Go on where a checkpoint stands."""
        self.best, self.best_epoch = state["best"], int(state["best_epoch"])
        self._weights = tensors
