"""How a training shows that it lives: a bar in a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from pynn.train.callbacks import Callback, Run


def epoch_line(run: Run) -> str:
    """The last epoch in one line: "epoch  3/10  train loss 0.1234  valid accuracy 0.9876  1.2
    s"."""
    row = run.history.rows[-1]
    width = len(str(run.epochs))
    parts = [f"epoch {run.epoch:{width}}/{run.epochs}"]
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    parts += [f"{name.replace('_', ' ')} {row[name]:.4f}" for name in names if name in row]
    return "  ".join([*parts, f"{row['seconds']:.1f} s"])


class LineProgress(Callback):
    """One line for each epoch, on standard error."""

    def on_epoch_end(self, run: Run) -> None:
        """Print the line."""
        print(epoch_line(run), file=sys.stderr, flush=True)


class BarProgress(Callback):
    """A bar that moves with every batch, above it a line for each finished epoch (rich)."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task: Any = None

    def on_begin(self, run: Run) -> None:
        """Show the bar."""
        done = run.epoch * run.batches
        self._task = self._progress.add_task(
            f"epoch {run.epoch + 1}/{run.epochs}",
            total=run.epochs * run.batches,
            completed=done,
            loss=run.loss,
        )
        self._progress.start()

    def on_batch_end(self, run: Run) -> None:
        """Move the bar."""
        self._progress.update(
            self._task, completed=run.epoch * run.batches + run.batch, loss=run.loss
        )

    def on_epoch_end(self, run: Run) -> None:
        """Print the line of the epoch."""
        self._progress.console.print(epoch_line(run), highlight=False)
        self._progress.update(
            self._task, description=f"epoch {min(run.epoch + 1, run.epochs)}/{run.epochs}"
        )

    def on_end(self, run: Run) -> None:
        """Remove the bar."""
        self._progress.stop()


def choose(progress: bool | str) -> list[Callback]:
    """The display that `fit` was asked for: True, False or "auto" (a bar in a terminal with rich,
    else lines); none where there is no standard error."""
    if progress not in (True, False, "auto"):
        raise ValueError(f"progress must be True, False or 'auto', got {progress!r}")
    if progress is False or sys.stderr is None:  # a service, or a program without a console
        return []
    if sys.stderr.isatty():
        try:
            return [BarProgress()]
        except ImportError:
            pass
    return [LineProgress()]
