"""Square blocks of each channel set to zero at random.

Ghiasi, Lin and Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.
"""

import math

import numpy as np

from pynn import _core
from pynn.reference.arrays import Array, dense, result, silent
from pynn.reference.philox import words


@silent
def drop_block2d(
    x: Array, p: float, block_size: int, seed: int, step: int, node: int, first_sample: int
) -> Array:
    x = dense("x", x)
    _core.drop_block2d_shape(x.shape, p, block_size)
    if x.size == 0:
        return x.copy()
    n, channels, height, width = x.shape
    size = min(block_size, height, width)
    corner_rows, corner_columns = height - size + 1, width - size + 1
    gamma = p / size**2 * (height * width) / (corner_rows * corner_columns)
    threshold = np.uint64(math.floor(min(gamma, 1.0) * 2**32))

    word = words(seed, step, node, first_sample, n, channels * height * width).reshape(x.shape)
    dropped_corner = word[:, :, :corner_rows, :corner_columns] < threshold
    kept = np.ones(x.shape, np.bool_)
    for i, j in np.ndindex(size, size):
        kept[:, :, i : i + corner_rows, j : j + corner_columns] &= ~dropped_corner
    count = np.count_nonzero(kept, axis=(1, 2, 3), keepdims=True)
    scale = (channels * height * width / count).astype(x.dtype)  # infinite where none is kept
    return result(np.where(kept, x * scale, 0), x)
