"""Where arrays begin that kernels read and write again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pynn.graph import Array, Shape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

LINE_BYTES = 64  # of a processor's cache, and of the widest vector


def aligned_zeros(shape: Shape, dtype: DTypeLike) -> Array:
    """Zeros that begin with a line of the cache: a vector that lies across two takes twice as long.

    NumPy's own arrays begin at multiples of 16 bytes.
    """
    bytes_needed = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(bytes_needed + LINE_BYTES, np.uint8)
    begin = -memory.__array_interface__["data"][0] % LINE_BYTES
    return memory[begin : begin + bytes_needed].view(dtype).reshape(shape)
