"""Features of a network that is not trained: computed once, then data like any other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pynn.graph import Array
from pynn.nn.module import Module, evaluating


def extract_features(
    trunk: Module,
    images: Array,
    *,
    prepare: Callable[[Array], Array] | None = None,
    batch_size: int = 32,
) -> Array:
    """What a network makes of images, in evaluation mode.

    Args:
        trunk: x (N, C, H, W) -> y (N, ...). Without random changes of the images between epochs,
            training what follows on y gives what training on x with the trunk frozen does.
        images: shape (N, ...).
        prepare: called on each batch of images first, such as `imagenet_input`.
        batch_size: how many images run at once.

    Returns:
        Shape (N, F), in the trunk's dtype.
    """
    parts = []
    with evaluating(trunk):
        for begin in range(0, len(images), batch_size):
            batch = images[begin : begin + batch_size]
            parts.append(
                trunk(batch if prepare is None else prepare(batch)).reshape(len(batch), -1)
            )
    return np.concatenate(parts) if parts else np.empty((0, 0), trunk.dtype)
