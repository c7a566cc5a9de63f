"""Folders of images, one subfolder for each class; and lists of the SHA-256 of their files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.data.splits import Rows, check_seed
from pynn.errors import FormatError, MissingExtraError
from pynn.io.atomic import replacing

_ENDINGS = (".pgm", ".png", ".jpg", ".jpeg")
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images of one size with their classes.

    Attributes:
        images: shape (N, C, H, W), uint8; C is 1 or 3.
        labels: shape (N,), int64.
        classes: names of the subfolders, in the order of the labels.
        paths: of the files, relative to the folder.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]


def image_folder(
    folder: str | os.PathLike[str],
    size: tuple[int, int],
    *,
    grey: bool = True,
    manifest: str | os.PathLike[str] | None = None,
) -> ImageFolder:
    """Read a folder of PGM, PNG and JPEG images, one subfolder for each class.

    Args:
        folder: its subfolders are the classes, in the order of their names, where numbers count as
            numbers: s2 comes before s10.
        size: (H, W) that all images are resized to.
        grey: one channel; otherwise red, green, blue.
        manifest: a file as `write_manifest` writes it, against which every image is checked before
            any is used.

    Raises:
        MissingExtraError: Pillow is not installed.
        FileNotFoundError: there is no such folder.
        FormatError: no images, a file that is no image, or one that differs from the manifest; it
            is named.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("images need Pillow: pip install 'pynn-core[run]'") from error
    root = Path(folder).expanduser()
    paths = _images(root)
    if manifest is not None:
        check_manifest(root, manifest, paths)
    classes = tuple(dict.fromkeys(path.split("/")[0] for path in paths))
    height, width = size
    images = np.empty((len(paths), 1 if grey else 3, height, width), np.uint8)
    for number, path in enumerate(paths):
        try:
            with Image.open(root / path) as image:
                fitted = image.convert("L" if grey else "RGB").resize((width, height))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise FormatError(f"{root / path} is not an image that can be read: {error}") from error
        pixels = np.asarray(fitted, np.uint8)
        images[number] = pixels if grey else pixels.transpose(2, 0, 1)
    labels = np.array([classes.index(path.split("/")[0]) for path in paths], np.int64)
    return ImageFolder(images, labels, classes, tuple(paths))


def write_manifest(folder: str | os.PathLike[str], manifest: str | os.PathLike[str]) -> None:
    """Write the SHA-256 of every image of a folder, as `sha256sum` does.

    Raises:
        FileNotFoundError, FormatError: as in `image_folder`.
        OSError: the manifest cannot be written.
    """
    root = Path(folder).expanduser()
    lines = [f"{_sha256(root / path)}  {path}\n" for path in _images(root)]
    with replacing(manifest) as file:
        file.write("".join(lines).encode())


def check_manifest(
    folder: str | os.PathLike[str], manifest: str | os.PathLike[str], paths: Sequence[str]
) -> None:
    """Check files against a manifest, whose paths may begin with the folder's own name.

    Raises:
        FormatError: naming the first file that is not listed, or differs.
    """
    root = Path(folder).expanduser()
    listed: Mapping[str, str] = {
        name.strip().removeprefix("*").removeprefix(f"{root.resolve().name}/"): digest
        for digest, _, name in (
            line.partition(" ")
            for line in Path(manifest).read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    }
    for path in paths:
        if path not in listed:
            raise FormatError(f"{root / path} is not listed in {os.fspath(manifest)}")
        found = _sha256(root / path)
        if found != listed[path].lower():
            raise FormatError(
                f"{root / path} has changed: its SHA-256 is {found}, {os.fspath(manifest)} says "
                f"{listed[path]}"
            )


def split_each_class(
    labels: NDArray[Any], sizes: Sequence[int], seed: int, names: Sequence[str] = ()
) -> tuple[Rows, ...]:
    """Deal the rows of every class into parts that do not overlap, by a permutation.

    Args:
        labels: shape (N,), integers from 0.
        sizes: how many rows of each class come into each part.
        seed: 0..2**64-1.
        names: of the classes, for errors.

    Returns:
        Row numbers of each part.

    Raises:
        ValueError: a class has too few rows; it is named.
    """
    rng = np.random.default_rng(check_seed(seed))
    parts: list[list[Rows]] = [[] for _ in sizes]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < sum(sizes):
            name = names[int(label)] if len(names) > int(label) else str(label)
            raise ValueError(
                f"{name} has {len(rows)} images, but {sum(sizes)} are needed: "
                f"{' + '.join(str(size) for size in sizes)}"
            )
        ends = np.cumsum(sizes)
        for part, size, end in zip(parts, sizes, ends, strict=True):
            part.append(rows[end - size : end])
    return tuple(np.concatenate(part) for part in parts)


def _images(root: Path) -> list[str]:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    paths = [
        f"{subfolder.name}/{file.name}"
        for subfolder in sorted(root.iterdir(), key=lambda path: _numbers_as_such(path.name))
        if subfolder.is_dir()
        for file in sorted(subfolder.iterdir(), key=lambda path: _numbers_as_such(path.name))
        if file.suffix.lower() in _ENDINGS
    ]
    if not paths:
        raise FormatError(
            f"{root} has no images: expected a subfolder for each class with files "
            f"{', '.join(f'*{ending}' for ending in _ENDINGS)}"
        )
    return paths


def _numbers_as_such(name: str) -> tuple[str, int, str]:
    """s2.png before s10.png."""
    stem = name.rstrip("0123456789") if "." not in name else name.split(".", maxsplit=1)[0]
    letters = stem.rstrip("0123456789")
    digits = name.split(".", maxsplit=1)[0][len(letters) :]
    return letters, int(digits) if digits else -1, name


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
