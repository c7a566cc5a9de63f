"""The one seed behind initialisation, shuffling and dropout.

Masks of random operators do not come from a stream that is consumed: each word is Philox4x32-10 of
    (seed, step, node, sample,
element), so the number of threads, the batch order of other layers and the back end cannot change
it."""

from __future__ import annotations

import secrets

import numpy as np

_seed: int = secrets.randbits(63)
_rng: np.random.Generator = np.random.default_rng(_seed)


def manual_seed(seed: int) -> None:
    """Set the seed of initialisation, shuffling and dropout.

    Args:
        seed: 0 ... 2**64 - 1.
    """
    global _seed, _rng  # noqa: PLW0603  one process, one default seed
    seed = int(seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0 ... 2**64 - 1, got {seed}")
    _seed = seed
    _rng = np.random.default_rng(seed)


def get_seed() -> int:
    """The seed that random operators and shuffling use now."""
    return _seed


def default_rng() -> np.random.Generator:
    """The generator that initialisers draw from unless they are given another one."""
    return _rng
