"""What a study found: settings, tables, comparisons with published values, figures; as a page, as
JSON, and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pynn.io.atomic import replacing

Cell = str | float | int | None
OURS = "Ours, not published with the study"


@dataclass(frozen=True)
class Comparison:
    """A published number beside ours.

    Attributes:
        name: what was measured.
        published: the published value; None where there is none but a bound that is ours.
        ours: what the run gave; None where it gave nothing.
        low, high: the values that count as reproduced, both included; NaN never does.
        remark: why ours differs, or what else is to be known.
        compared: False where the data or the length of the run is not the published one.
        reproduced: whether it is, where no numbers can tell.
    """

    name: str
    published: Cell
    ours: Cell
    low: float = -math.inf
    high: float = math.inf
    remark: str = ""
    compared: bool = True
    reproduced: bool | None = None

    def with_compared(self, compared: bool) -> Comparison:
        """The same, compared or not."""
        return replace(self, compared=compared)

    @property
    def verdict(self) -> str:
        """One of "within" or "outside" its tolerance, and "not compared"."""
        if not self.compared:
            return "not compared"
        if self.reproduced is not None:
            return "within" if self.reproduced else "outside"
        number = isinstance(self.ours, (int, float))
        return "within" if number and self.low <= float(self.ours or 0) <= self.high else "outside"

    @property
    def tolerance(self) -> str:
        """The values that count, in words."""
        if math.isinf(self.low) and math.isinf(self.high):
            return ""
        if math.isinf(self.high):
            return f">= {show(self.low)}"
        if math.isinf(self.low):
            return f"<= {show(self.high)}"
        return f"{show(self.low)} to {show(self.high)}"


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """A figure that has been drawn: a PNG file beside the report."""

    name: str
    caption: str
    png: bytes


@dataclass
class Report:
    """Gathers what a study found, in the order in which it is told.

    Attributes:
        study: its name on the command line.
        title: what it is about.
        settings: data, seed, versions, machine and what the study says, by name.
        ours: what it does not say and had to be chosen, by name.
        result: plain values for programs, by name.
        seconds: how long the study took, runs that were kept from before included.
    """

    study: str
    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    comparisons: list[Comparison] = field(default_factory=list)
    sections: list[str | Table | Picture | tuple[str, list[Comparison]]] = field(
        default_factory=list
    )

    def note(self, text: str) -> None:
        """A paragraph."""
        self.sections.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table of plain cells."""
        self.sections.append(Table(title, columns, rows))

    def compare(self, title: str, comparisons: Sequence[Comparison]) -> None:
        """A table of published values beside ours."""
        self.comparisons += comparisons
        self.sections.append((title, list(comparisons)))

    def figure(self, name: str, figure: Any, caption: str) -> None:
        """A matplotlib figure; `name` becomes the name of its file."""
        import io

        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130, format="png")
        self.sections.append(Picture(name, caption, buffer.getvalue()))

    def outcome(self) -> str:
        """How many of the compared values are within their tolerance, in words."""
        compared = [each for each in self.comparisons if each.compared]
        if not compared:
            return "nothing is compared: the published numbers are for other data or full runs"
        within = sum(each.verdict == "within" for each in compared)
        return f"{within} of {len(compared)} published values within their tolerance"

    def as_json(self) -> dict[str, Any]:
        """Plain values: settings, result, comparisons, tables. What is not finite is a string.

        Raises:
            ValueError: a result has a name that is the report's own.
        """
        head = {"study": self.study, "title": self.title, "seconds": self.seconds}
        details = {
            "settings": self.settings,
            "ours": self.ours,
            "comparisons": [
                {
                    "name": each.name, "published": each.published, "ours": each.ours,
                    "low": each.low, "high": each.high, "verdict": each.verdict,
                    "remark": each.remark,
                }
                for each in self.comparisons
            ],
            "tables": [
                {
                    "title": section.title,
                    "columns": list(section.columns),
                    "rows": [list(row) for row in section.rows],
                }
                for section in self.sections
                if isinstance(section, Table)
            ],
        }  # fmt: skip
        if taken := (head | details).keys() & self.result.keys():
            raise ValueError(f"results cannot be called {', '.join(sorted(taken))}")
        found: dict[str, Any] = finite(head | self.result | details)
        return found

    def as_markdown(self) -> str:
        """The report without its pictures."""
        parts = [f"## {self.title} (`pynn run {self.study}`)", f"{self.outcome()}; "
                 f"{duration(self.seconds)}."]  # fmt: skip
        for section in self.sections:
            if isinstance(section, str):
                parts.append(section)
            elif isinstance(section, Table):
                parts.append(f"### {section.title}\n\n" + _grid(section.columns, section.rows))
            elif isinstance(section, tuple):
                title, comparisons = section
                rows = [comparison_cells(each) for each in comparisons]
                parts.append(f"### {title}\n\n" + _grid(COMPARISON_COLUMNS, rows))
        for title, values in (("Settings", self.settings), (OURS, self.ours)):
            if values:
                told = ", ".join(f"{name}: {value}" for name, value in values.items())
                parts.append(f"{title}: {told}.")
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write report.html, result.json, report.md and the figures into a folder.

        Raises:
            OSError: the folder cannot be written.
        """
        from pynn.report.page import page

        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "result.json": json.dumps(self.as_json(), indent=1, allow_nan=False).encode(),
            "report.md": f"# pynn run {self.study}\n\n{self.as_markdown()}".encode(),
            "report.html": page(self).encode(),
        }
        for section in self.sections:
            if isinstance(section, Picture):
                files[f"{section.name}.png"] = section.png
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)


COMPARISON_COLUMNS = ("what", "published", "ours", "reproduced if", "verdict", "remark")


def comparison_cells(each: Comparison) -> list[Cell]:
    """The row of a comparison."""
    return [each.name, each.published, each.ours, each.tolerance, each.verdict, each.remark]


def show(cell: Cell) -> str:
    """A cell as text: four digits behind the point, more where numbers from 1 to 10 have them."""
    if cell is None:
        return "-"
    if isinstance(cell, (bool, str, int)):
        return str(cell)
    if math.isnan(cell) or math.isinf(cell):
        return str(cell)
    if cell == 0 or 1e-4 <= abs(cell) < 1e5:
        text = f"{cell:.4f}" if abs(cell) < 1 else f"{cell:.{7 if abs(cell) < 10 else 5}g}"
        return text if float(text) != 0 or cell == 0 else f"{cell:.4g}"
    return f"{cell:.4g}"


def finite(value: Any) -> Any:
    """What JSON has for plain values: neither NaN nor infinity, but their names."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float) -> str:
    """Seconds, or minutes from two on."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[show(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
