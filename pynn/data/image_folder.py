"""Folders of images: one subfolder for each class, such as each person."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pynn.data.dataset import Images
from pynn.data.images import ENDINGS, Size, read_image
from pynn.errors import FormatError, ShapeError


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images with class labels, not yet split.

    Attributes:
        name: of the folder.
        images: shape (N, C, H, W), uint8, class after class.
        labels: shape (N,), int64, in 0..len(classes)-1.
        classes: the names of the subfolders.
        files: where each image came from, relative to the folder, with slashes.
    """

    name: str
    images: Images
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[str, ...]


def read_image_folder(
    folder: str | os.PathLike[str], *, size: Size | None = None, channels: int = 1
) -> ImageFolder:
    """Read a folder of images.

    Args:
        folder: with one subfolder of images for each class.
        size, channels: as for `read_image`. Without a size all images must have the same.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        FormatError: there is no subfolder, one without images, or a file that is no image.
        ShapeError: images of several sizes, and no size given.
        MissingExtraError: Pillow is not installed.
    """
    root = Path(folder).expanduser()
    listed = list_images(root)
    files = [file for _, found in listed for file in found]
    images = [read_image(root / file, size=size, channels=channels) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ShapeError(
                f"{root / file} has {image.shape[1]} x {image.shape[2]} pixels, but {files[0]} "
                f"has {images[0].shape[1]} x {images[0].shape[2]}: give a size for all"
            )
    labels = np.repeat(np.arange(len(listed)), [len(found) for _, found in listed])
    classes = tuple(name for name, _ in listed)
    return ImageFolder(root.resolve().name, np.stack(images), labels, classes, tuple(files))


def list_images(folder: str | os.PathLike[str]) -> list[tuple[str, list[str]]]:
    """The images of a folder by their names' endings (.pgm, .ppm, .png, .jpg, .jpeg).

    Returns:
        For each subfolder its name and its images, relative to the folder, with slashes; both in
        the order in which people count: s2 before s10. Names that begin with a dot are left out.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        FormatError: there is no subfolder, or one without images.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"the folder of images {root} does not exist")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder of images but a file")
    subfolders = sorted(
        (path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=_counting,
    )
    if not subfolders:
        raise FormatError(f"{root}: expected one subfolder of images for each class, found none")
    listed = []
    for name in subfolders:
        found = [
            f"{name}/{path.name}"
            for path in (root / name).iterdir()
            if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
        ]
        if not found:
            raise FormatError(f"{root / name}: no images (expected {', '.join(ENDINGS)})")
        listed.append((name, sorted(found, key=_counting)))
    return listed


def _counting(name: str) -> list[tuple[int, str]]:
    """Sorts s2 before s10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]
