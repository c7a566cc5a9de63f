"""What a data set is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.errors import DTypeError, LabelError, ShapeError

Images = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with class labels, for training and for the test; checked when it is made.

    Attributes:
        name: what it is called.
        train_images: shape (N, C, H, W), uint8.
        train_labels: shape (N,), integers in 0..len(classes)-1.
        test_images: shape (M, C, H, W), uint8.
        test_labels: shape (M,), integers in 0..len(classes)-1.
        classes: the names of the classes.

    Raises:
        DTypeError, ShapeError, LabelError: arrays that are not so.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check("training", self.train_images, self.train_labels)
        self._check("test", self.test_images, self.test_labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ShapeError(
                f"{self.name}: training images of shape {self.train_images.shape[1:]}, "
                f"but test images of shape {self.test_images.shape[1:]}"
            )

    def _check(self, part: str, images: Images, labels: Labels) -> None:
        if images.dtype != np.uint8:
            raise DTypeError(f"{self.name}: {part} images must be uint8, got {images.dtype}")
        if images.ndim != 4:
            raise ShapeError(
                f"{self.name}: {part} images must have shape (N, C, H, W), got {images.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise DTypeError(f"{self.name}: {part} labels must be integers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise ShapeError(
                f"{self.name}: {part} labels must have shape {images.shape[:1]}, got {labels.shape}"
            )
        outside = (labels < 0) | (labels >= len(self.classes))
        if outside.any():
            row = int(np.argmax(outside))
            raise LabelError(
                f"{self.name}: {part} label {labels[row]} at row {row} is outside "
                f"0..{len(self.classes) - 1}"
            )
