"""Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw.

"Parallel random numbers: as easy as 1, 2, 3", SC 2011. Every word is a function of the key (the
seed) and of the counter (step, node, sample, element // 4), so the order of drawing is no matter.
"""

import numpy as np
from numpy.typing import NDArray

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: NDArray[np.uint64], key: int) -> NDArray[np.uint32]:
    """The four words of each counter, of four 32-bit numbers: (..., 4) -> (..., 4)."""
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = p1 >> _HALF ^ c1 ^ np.uint64(k0), p1 & _LOW
        c2, c3 = p0 >> _HALF ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(
    seed: int, step: int, node: int, first_sample: int, samples: int, count: int
) -> NDArray[np.uint32]:
    """The first `count` words of each of a run of samples, (samples, count)."""
    quads = -(-count // 4)
    counter = np.empty((samples, quads, 4), np.uint64)
    counter[..., 0] = step & 0xFFFFFFFF
    counter[..., 1] = node & 0xFFFFFFFF
    sample = np.arange(samples, dtype=np.uint64) + np.uint64(first_sample & 0xFFFFFFFF)
    counter[..., 2] = sample[:, None] & _LOW
    counter[..., 3] = np.arange(quads)
    return philox4x32(counter, seed).reshape(samples, 4 * quads)[:, :count]


def philox(seed: int, step: int, node: int, sample: int, count: int) -> NDArray[np.uint32]:
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return words(seed, step, node, sample, 1, count).reshape(count)
