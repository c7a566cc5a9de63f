"""How the error of central differences depends on their step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pynn.testing.gradcheck import numerical_gradient


def difference_errors(
    loss: Callable[[], float],
    weights: NDArray[np.floating],
    gradient: NDArray[np.floating],
    steps: Sequence[float],
    places: Sequence[int],
) -> list[float]:
    """How far central differences are from a gradient, for each of some steps.

    Args:
        loss: computes the loss from `weights` as they are at the call.
        weights: C-contiguous; changed in place, and put back.
        gradient: in the shape of weights.
        steps: the step sizes.
        places: which weights, as numbers in the flat array.

    Returns:
        The largest absolute difference over the places, for each step. It falls with the square of
        the step until rounding of the loss takes over.
    """
    expected = gradient.reshape(-1)[list(places)].astype(np.float64)
    return [
        float(
            np.abs(
                numerical_gradient(loss, weights, eps=step, flat_indices=places) - expected
            ).max()
        )
        for step in steps
    ]
