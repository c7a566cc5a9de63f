"""Images as networks that were trained on ImageNet take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pynn.errors import DTypeError, ShapeError

# Of red, green and blue in 0..1 over ImageNet's training images, as torchvision has them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def imagenet_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images scaled to 0..1, less the mean, divided by the standard deviation of each channel.

    Args:
        images: shape (N, 3, H, W) in RGB, or (N, 1, H, W) in grey, which stands for all three.

    Returns:
        Shape (N, 3, H, W), float32.

    Raises:
        DTypeError, ShapeError: other images.
    """
    if images.dtype != np.uint8:
        raise DTypeError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"images must have shape (N, 1 or 3, H, W), got {images.shape}")
    deviation = np.array(STD, np.float32)
    scale, shift = np.float32(1 / 255) / deviation, np.array(MEAN, np.float32) / deviation
    result: NDArray[np.float32] = images * scale[:, None, None] - shift[:, None, None]
    return result
