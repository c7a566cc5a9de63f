"""The one seed behind initialisation, shuffling and dropout.

Masks of random operators do not come from a stream that is consumed: each word is Philox4x32-10 of
(seed, step, node, sample, element), so the number of threads, the batch order of other layers and
the back end cannot change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pynn.arguments import whole_number
from pynn.locks import lock_across_forks

_seed: int = int.from_bytes(os.urandom(7))
_rng: np.random.Generator | None = None
_lock = lock_across_forks()


def manual_seed(seed: int) -> None:
    """Set the seed of initialisation, shuffling and dropout.

    Args:
        seed: 0 ... 2**64 - 1.
    """
    global _seed, _rng
    seed = whole_number("seed", seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0 ... 2**64 - 1, got {seed}")
    with _lock:
        _seed, _rng = seed, None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Another seed inside the `with` block; afterwards all is drawn as if there had been none."""
    global _seed, _rng
    kept = _seed, _rng
    manual_seed(seed)
    try:
        yield
    finally:
        with _lock:
            _seed, _rng = kept


def get_seed() -> int:
    """The seed that random operators and shuffling use now."""
    return _seed


def default_rng() -> np.random.Generator:
    """The generator that initialisers draw from unless they are given another one. Threads may
    share it; who draws what then depends on who comes first."""
    global _rng  # noqa: PLW0603  made when it is first asked for: numpy.random takes its time
    with _lock:
        if _rng is None:
            _rng = np.random.default_rng(_seed)
        return _rng
