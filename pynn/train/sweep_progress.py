"""What a person sees of sweeps: runs, epochs, and the best so far."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynn.train.settings import Setting

_LOOK_EVERY = 0.5  # seconds


class Watched:
    """How far one sweep is, and the best value of the number that is watched.

    Attributes:
        name: of the sweep.
        total, done: runs.
        monitor: a number of the results.
        best: its best value; nan before the first.
    """

    def __init__(self, name: str, total: int, monitor: str | None) -> None:
        self.name, self.total, self.monitor = name, total, monitor
        self.done = 0
        self.best = math.nan

    def finished(self, result: dict[str, Any]) -> None:
        """A run has ended."""
        self.done += 1
        value = result.get(self.monitor) if self.monitor else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            better = max if "accuracy" in str(self.monitor) else min
            self.best = value if math.isnan(self.best) else better(self.best, value)

    def said(self) -> str:
        """The best value, in words."""
        return "" if math.isnan(self.best) else f"best {self.monitor} {self.best:.4f}"


class Display:
    """Shows nothing."""

    def __init__(self, sweeps: Sequence[Watched]) -> None:
        self.sweeps = sweeps

    @contextmanager
    def showing(self, reports: Sequence[Path]) -> Iterator[None]:
        """While runs go on; each may write how far it is into its file of `reports`."""
        yield

    def finished(self, number: int, setting: Setting, result: dict[str, Any]) -> None:
        """A run of the sweep with this number has ended."""
        self.sweeps[number].finished(result)


class Lines(Display):
    """A line on standard error for each run."""

    def finished(self, number: int, setting: Setting, result: dict[str, Any]) -> None:
        """Print how the run went."""
        super().finished(number, setting, result)
        sweep = self.sweeps[number]
        said = ", ".join(f"{name} {value}" for name, value in setting.items())
        how = "kept" if result.get("reused") else f"{result['seconds']:.1f} s"
        text = f"{sweep.name} {sweep.done}/{sweep.total}: {said} ({how})  {sweep.said()}"
        print(text.rstrip(), file=sys.stderr, flush=True)


class Bars(Display):
    """Bars of rich: the runs of each sweep, and the epochs of those under way."""

    @contextmanager
    def showing(self, reports: Sequence[Path]) -> Iterator[None]:
        """Show the bars until the block ends."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[said]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bars:
            rows = [
                bars.add_task(f"{sweep.name}: runs", total=sweep.total, said="")
                for sweep in self.sweeps
            ]
            epochs = bars.add_task("epochs under way", total=None, said="")
            ended = threading.Event()

            def update() -> None:
                for row, sweep in zip(rows, self.sweeps, strict=True):
                    bars.update(row, completed=sweep.done, said=sweep.said())

            def look() -> None:
                while not ended.wait(_LOOK_EVERY):
                    under_way = [found for path in reports if (found := _read(path)) is not None]
                    update()
                    bars.update(
                        epochs,
                        completed=sum(each["epoch"] for each in under_way),
                        total=sum(each["epochs"] for each in under_way) or None,
                    )

            watcher = threading.Thread(target=look, daemon=True)
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()
                update()
                bars.update(epochs, visible=False)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report


def choose(progress: bool | str, sweeps: Sequence[Watched]) -> Display:
    """The display that `progress` (see `pynn.fit`) asks for."""
    if progress is False or sys.stderr is None:  # a service, or a program without a console
        return Display(sweeps)
    if sys.stderr.isatty():
        try:
            import rich  # noqa: F401
        except ImportError:
            pass
        else:
            return Bars(sweeps)
    return Lines(sweeps)
