"""Figures in one style. All return matplotlib figures that belong to no window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynn.errors import MissingExtraError

_LEVELS = 20  # of a contour plot
_MARKED = 40  # points up to which each has a marker


@dataclass
class Panel:
    """One set of axes with lines.

    Attributes:
        lines: (x, y) by label.
        title, x, y: texts, with units.
        log: "x", "y", "xy" or "".
        limits: of the y axis.
    """

    lines: Mapping[str, tuple[ArrayLike, ArrayLike]]
    title: str = ""
    x: str = "epoch"
    y: str = "accuracy (share)"
    log: str = ""
    limits: tuple[float, float] | None = None


@dataclass
class Contour:
    """A loss over two weights, and trajectories over it.

    Attributes:
        x, y: values of the two weights, shapes (M,) and (N,).
        loss: shape (N, M).
        paths: (x, y) of each trajectory by label.
    """

    x: ArrayLike
    y: ArrayLike
    loss: ArrayLike
    paths: Mapping[str, tuple[ArrayLike, ArrayLike]]
    title: str = ""
    names: tuple[str, str] = field(default=("weight 1", "weight 2"))


def blank_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of this size in inches, which belongs to no window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'pynn-core[run]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    figure = blank_figure(width * columns, height * rows)
    return figure, figure.subplots(rows, columns, squeeze=False)


def curves(panels: Sequence[Panel], *, columns: int = 2, title: str = "") -> Any:
    """Panels of lines, row by row."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = _figure(rows, columns, 4.8 if columns < 4 else 3.6, 3.5 if columns < 4 else 2.9)
    for place, panel in zip(axes.flat, panels, strict=False):
        for label, (x, y) in panel.lines.items():
            marker = "o" if np.size(x) <= _MARKED else ""
            place.plot(x, y, marker=marker, markersize=3, linewidth=1.3, label=label)
        for axis, set_scale in enumerate((place.set_xscale, place.set_yscale)):
            values = (np.asarray(line[axis]) for line in panel.lines.values())
            if "xy"[axis] in panel.log and any(np.any(each > 0) for each in values):
                set_scale("log")
        if panel.limits is not None:
            place.set_ylim(*panel.limits)
        place.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        place.grid(alpha=0.3)
        if place.lines:
            place.legend(fontsize=8)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure


def images(
    rows: Sequence[ArrayLike], labels: Sequence[str] = (), *, signed: bool = False, title: str = ""
) -> Any:
    """Rows of grey images.

    Args:
        rows: each an array (K, H, W).
        labels: of the rows.
        signed: black and white are minus and plus the largest absolute value of a row, as suits
            weights; otherwise 0 and the largest value.
        title: stands above.
    """
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    count = max(len(row) for row in arrays)
    figure, axes = _figure(len(arrays), count, 0.95, 1.0)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
        place.set_frame_on(False)
    for number, row in enumerate(arrays):
        limit = float(np.abs(row).max()) or 1.0
        for place, image in zip(axes[number], row, strict=False):
            place.imshow(
                image, cmap="RdBu_r" if signed else "gray", vmin=-limit if signed else 0, vmax=limit
            )
        if labels:
            axes[number][0].set_ylabel(labels[number], rotation=0, ha="right", va="center")
    if title:
        figure.suptitle(title)
    return figure


def contours(panels: Sequence[Contour], *, title: str = "") -> Any:
    """Contour plots of a loss with trajectories; a cross is where each starts, a dot where it
    ends. The first lies on top.

    Levels are evenly spaced in the square root of what a loss exceeds the lowest by, so that those
    of a parabola are equally far apart and a valley shows.
    """
    figure, axes = _figure(1, len(panels), 5.2, 4.4)
    for place, panel in zip(axes.flat, panels, strict=True):
        lowest, height = np.min(panel.loss), np.ptp(panel.loss) or 1.0
        levels = lowest + height * np.linspace(0, 1, _LEVELS + 1) ** 2
        filled = place.contourf(panel.x, panel.y, panel.loss, levels, cmap="Greys", alpha=0.8)
        figure.colorbar(filled, ax=place, label="loss (nats)", format="%.2f")
        for number, (label, (x, y)) in enumerate(panel.paths.items()):
            above = 3 - number / 10
            (line,) = place.plot(
                x, y, marker=".", markersize=4, linewidth=1, label=label, zorder=above
            )
            for end, marker in ((0, "x"), (-1, "o")):
                place.plot(
                    np.ravel(x)[end], np.ravel(y)[end], marker, color=line.get_color(), zorder=above
                )
        place.set(title=panel.title, xlabel=panel.names[0], ylabel=panel.names[1])
        if panel.paths:
            place.legend(fontsize=8)
    if title:
        figure.suptitle(title)
    return figure
