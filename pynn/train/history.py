"""What happened in each epoch."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """What JSON has for NumPy's numbers and arrays."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(
        f"JSON holds numbers, texts, lists and dictionaries, not {type(value).__name__}"
    )


class History:
    """A table with one row for each epoch. `history["valid_loss"]` is a column, `history[-1]` the
    last row.

    Attributes:
        rows: dictionaries of numbers: epoch, train_loss, train_accuracy, valid_loss,
            valid_accuracy, lr, seconds, as far as they were measured. Losses and accuracies of
            training are means over the epoch, before each update.
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows: list[dict[str, float]] = list(rows or [])

    def append(self, row: dict[str, float]) -> None:
        """Add the row of an epoch."""
        self.rows.append(row)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, key: str | int) -> list[float] | dict[str, float]:
        if not isinstance(key, str):
            return self.rows[key]
        if key not in self.columns:
            raise KeyError(
                f"the history has no column {key!r}, only {', '.join(self.columns) or 'no rows'}"
            )
        return self.column(key)

    def column(self, name: str) -> list[float]:
        """The values of one column, in order of epochs."""
        return [row[name] for row in self.rows if name in row]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV, one line for each epoch."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a JSON list of rows. A number that is not finite is a string, "nan",
        "inf" or "-inf", as in reports: JSON has no such numbers."""
        text = json.dumps(self.rows, default=plain)
        rows = json.loads(text, parse_constant=lambda name: str(float(name)))
        Path(path).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    def __repr__(self) -> str:
        return f"History({len(self)} epochs: {', '.join(self.columns)})"
