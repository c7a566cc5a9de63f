"""What the losses have in common: the reduction."""

from typing import Any

import numpy as np

from pynn.reference.arrays import Array, result


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def reduced(
    losses: Array, gradient: Array, normaliser: float, reduction: str, like: Array
) -> tuple[Any, Array]:
    """The loss and its gradient from those of each sample; a mean over nothing is 0."""
    if reduction == "none":
        return result(losses, like), result(gradient, like)
    total = float(np.sum(losses))
    if reduction == "sum":
        return total, result(gradient, like)
    if normaliser == 0:
        return 0.0, np.zeros_like(like)
    return total / normaliser, result(gradient / normaliser, like)
