"""What is measured, and how figures are shown and kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """The figures of one workload.

    Attributes:
        workload: its name.
        figures: by column; those that a failed peer would have given are not there.
        goal: the most that the figures in the measure's goal columns may be, or None.
        notes: peers that failed, and what else must be known.
    """

    workload: str
    figures: dict[str, float]
    goal: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measure:
    """One table.

    Attributes:
        caption: what its figures are, with their unit.
        goal_columns: the figures that have a goal.
        rounds: how often each figure is taken.
        workloads: names, in order.
        row: measures one workload, given its name, the peers, threads and rounds.
    """

    caption: str
    goal_columns: tuple[str, ...]
    rounds: int
    workloads: tuple[str, ...]
    row: Callable[[str, list[str], int, int], Row]


def reached(measure: Measure, row: Row) -> dict[str, bool]:
    """Whether each figure that has a goal reaches it; those that could not be measured are not
    there.
    """
    if row.goal is None:
        return {}
    figures, goal = row.figures, row.goal
    return {name: figures[name] <= goal for name in measure.goal_columns if name in figures}


def show(measure: Measure, row: Row) -> None:
    """Print one row, a figure to a line."""
    print(f"\n{row.workload}")
    for column, figure in row.figures.items():
        print(f"  {column:<22} {figure:11.3f}")
    for column, is_reached in reached(measure, row).items():
        verdict = "reached" if is_reached else "not reached"
        print(f"  goal: {column} at most {row.goal:g}: {verdict}")
    for note in row.notes:
        print(f"  {note}")


def show_ratios(rows: list[Row]) -> None:
    """Print the geometric mean, least and greatest of each column that is a ratio."""
    columns = dict.fromkeys(column for row in rows for column in row.figures if " / " in column)
    if columns:
        print()
    for column in columns:
        ratios = [row.figures[column] for row in rows if column in row.figures]
        mean = statistics.geometric_mean(ratios)
        print(
            f"{column}: geometric mean {mean:.2f}, least {min(ratios):.2f}, "
            f"greatest {max(ratios):.2f}"
        )


def as_markdown(measure: Measure, rows: list[Row]) -> str:
    """A caption and a table."""
    columns = list(dict.fromkeys(column for row in rows for column in row.figures))
    head = ["workload", *columns, "goal"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        cells = [f"{row.figures[name]:.3g}" if name in row.figures else "" for name in columns]
        goal = "" if row.goal is None else f"{row.goal:g}"
        lines.append("| " + " | ".join([row.workload, *cells, goal]) + " |")
    limited = " and ".join(f"`{column}`" for column in measure.goal_columns)
    return f"{measure.caption}; the goal is for {limited}:\n\n" + "\n".join(lines) + "\n"
