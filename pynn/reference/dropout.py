"""Elements set to zero at random; the others are scaled so that the expectation stays."""

import math

import numpy as np

from pynn.reference.arrays import Array, dense, result, silent
from pynn.reference.philox import words


@silent
def dropout(x: Array, p: float, seed: int, step: int, node: int, first_sample: int) -> Array:
    x = dense("x", x)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be between 0 and 1, got {p:g}")
    if p == 1:
        return np.zeros_like(x)
    samples = x.shape[0] if x.ndim else 1
    size = math.prod(x.shape[1:])
    word = words(seed, step, node, first_sample, samples, size).reshape(x.shape)
    dropped = word < np.uint64(math.floor(p * 2**32))
    return result(np.where(dropped, 0, x * (1 / (1 - float(p)))), x)
