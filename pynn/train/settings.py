"""Settings of runs: grids with constraints, and random draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Setting = dict[str, Any]
Draw = Callable[[np.random.Generator], Any]


def grid(
    axes: Mapping[str, Sequence[Any]], *, where: Callable[[Setting], bool] | None = None
) -> list[Setting]:
    """All combinations of some values, the last axis fastest.

    Args:
        axes: name of each axis and its values.
        where: keep only settings for which it is true, such as networks of a certain size.

    Returns:
        A setting, values by name, for each combination that is kept.
    """
    settings = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return settings if where is None else [setting for setting in settings if where(setting)]


def log_uniform(low: float, high: float) -> Draw:
    """Draw 10**u with u uniform in log10(low) ... log10(high); an axis of `random_settings`.

    Raises:
        ValueError: unless 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"log_uniform needs 0 < low <= high, got {low} and {high}")
    return lambda rng: float(10 ** rng.uniform(math.log10(low), math.log10(high)))


def random_settings(
    axes: Mapping[str, Sequence[Any] | Draw],
    count: int,
    *,
    seed: int,
    where: Callable[[Setting], bool] | None = None,
) -> list[Setting]:
    """Draw settings at random.

    Args:
        axes: name of each axis, and values to choose from or a function that draws one, such as
            `log_uniform(1e-2, 1)`.
        count: how many settings.
        seed: they depend on it, on axes and on where alone; the first n of more settings are those
            of n.
        where: draw again where it is false.

    Raises:
        ValueError: where was false a thousand times in a row.
    """
    rng = np.random.default_rng(seed)
    settings: list[Setting] = []
    refused = 0
    while len(settings) < count:
        setting = {
            name: axis(rng) if callable(axis) else axis[int(rng.integers(len(axis)))]
            for name, axis in axes.items()
        }
        if where is None or where(setting):
            settings.append(setting)
            refused = 0
        elif (refused := refused + 1) == 1000:
            raise ValueError("`where` has refused a thousand settings in a row")
    return settings
