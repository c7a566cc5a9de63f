"""Learning curves as a picture."""

from __future__ import annotations

import os
from typing import Any

from pynn.report.figures import blank_figure
from pynn.train.history import History

_LABELS = {"train": "training", "valid": "validation"}


def save_learning_curves(path: str | os.PathLike[str], history: History, title: str) -> None:
    """Draw loss and accuracy over the epochs, training and validation, side by side.

    Args:
        path: a PNG or SVG file, replaced if it exists.
        history: of a training; columns that are missing are left out.
        title: stands above.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure = blank_figure(9, 3.6)
    from matplotlib.ticker import MaxNLocator

    figure.suptitle(title)
    panels: Any = figure.subplots(1, 2)
    epochs = history.column("epoch")
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for part, marker in (("train", "o"), ("valid", "s")):
            values = history.column(f"{part}_{quantity}")
            if values:
                axes.plot(epochs, values, marker=marker, markersize=3.5, label=_LABELS[part])
        axes.set_xlabel("epoch")
        axes.set_ylabel(
            "cross-entropy (nats per sample)" if quantity == "loss" else "accuracy (share)"
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=150)
