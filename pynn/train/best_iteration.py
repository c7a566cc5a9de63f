"""The number of iterations, chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pynn.arguments import whole_number
from pynn.graph import Array
from pynn.nn.losses import Loss
from pynn.train.callbacks import Callback, Run
from pynn.train.evaluation import evaluate


class BestIteration(Callback):
    """Measures loss and accuracy of parts of the data every so many batches, and at the end gives
    the model the parameters of the iteration that was best on one of them.

    Best is the highest accuracy; of equal ones, and where there are no labels, the lowest loss; of
    those the first.

    Args:
        every: batches between two measurements; the model is measured before the first batch, too.
        parts: (x, y) by name, such as train, valid and test; x is scaled as `pynn.fit` scales what
            it trains on, if it is of the same dtype.
        loss: as in training.
        chosen_on: the part that decides.

    Attributes:
        rows: {"iteration": batches trained on, "train_loss": ..., "train_accuracy": ..., ...} of
            each measurement.
        best: the row that was best.
    """

    def __init__(
        self,
        every: int,
        parts: Mapping[str, tuple[Any, Any]],
        loss: Loss,
        *,
        chosen_on: str = "valid",
    ) -> None:
        if chosen_on not in parts:
            raise ValueError(
                f"chosen_on must be one of the parts, {', '.join(parts)}, got {chosen_on!r}"
            )
        self.every = whole_number("every", every, 1)
        self.parts, self.loss, self.chosen_on = dict(parts), loss, chosen_on
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self._weights: dict[str, Array] = {}

    def on_begin(self, run: Run) -> None:
        """Measure the model as it is, unless a training goes on."""
        if run.epoch == 0:
            self.rows, self.best, self._weights = [], {}, {}
            self._measure(run)

    def on_batch_end(self, run: Run) -> None:
        """Measure, if it is time."""
        if run.step.steps % self.every == 0:
            self._measure(run)

    def on_end(self, run: Run) -> None:
        """Restore the best iteration's parameters."""
        if self._weights:
            run.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """All measurements, and the best."""
        return {"rows": self.rows, "best": self.best}

    def tensors(self) -> dict[str, Array]:
        """The parameters of the best iteration."""
        return self._weights

    def load(self, state: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Go on where a checkpoint stands."""
        self.rows, self.best, self._weights = list(state["rows"]), dict(state["best"]), tensors

    def _measure(self, run: Run) -> None:
        row = {"iteration": float(run.step.steps)}
        for name, part in self.parts.items():
            measured = evaluate(run.model, self.loss, run.as_trained(part))
            row |= {f"{name}_{quantity}": value for quantity, value in measured.items()}
        self.rows.append(row)
        if not self.best or self._rank(row) > self._rank(self.best):
            self.best, self._weights = row, run.model.state_dict()

    def _rank(self, row: Mapping[str, float]) -> tuple[float, float]:
        return row.get(f"{self.chosen_on}_accuracy", 0.0), -row[f"{self.chosen_on}_loss"]
