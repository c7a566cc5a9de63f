"""The people of the studies `faces` and `transfer`: images in classes, checked and split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pynn.data import (
    check_manifest,
    find_manifest,
    list_images,
    read_image_folder,
    resize,
    split_by_class,
    write_manifest,
)
from pynn.experiments.setup import Setup

SHARES = (0.6, 0.2, 0.2)
PARTS = ("train", "valid", "test")

# Of the 400 images of the ORL faces one after the other, s1/1.pgm to s40/10.pgm.
_ORL_SHA256 = "d81dc0ce1b7cae73897b46ab3d4d0ee2d1ff72f033819ec7c2a184dbba14a58f"
# So many images of the classes of a data set, or what there is, stand in for faces.
_STAND_INS = 40


@dataclass(frozen=True, eq=False)
class People:
    """Images of people, split for each of them.

    Attributes:
        images: (N, C, H, W) by part: train, valid, test.
        labels: (N,) by part.
        classes: who they are.
        among: the first of them and the one after the last, among all of the folder.
        compared: whether they are the ORL faces, which our bounds are for.
        note: what they are and how they were checked, for the report.
    """

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]
    classes: tuple[str, ...]
    among: tuple[int, int]
    compared: bool
    note: str

    @property
    def counts(self) -> str:
        """How many images each part has, in words."""
        return ", ".join(f"{name} {len(self.labels[name])}" for name in PARTS)

    def without_note(self) -> People:
        """What results depend on: the note is another once there is a manifest."""
        return replace(self, note="")

    def of_classes(self, begin: int, end: int) -> People:
        """The classes begin..end-1 alone, their labels counted from 0."""
        kept = {name: (y >= begin) & (y < end) for name, y in self.labels.items()}
        return replace(
            self,
            images={name: x[kept[name]] for name, x in self.images.items()},
            labels={name: y[kept[name]] - begin for name, y in self.labels.items()},
            classes=self.classes[begin:end],
            among=(self.among[0] + begin, self.among[0] + end),
        )


def people(setup: Setup, size: int, channels: int) -> People:
    """The faces of setup.faces; without, some images of the data set stand in for them.

    Before faces are read they are checked against a manifest: SHA256SUMS in their folder or beside
    it, or else the one that the first run left in setup.out.

    Args:
        setup: how the study is run.
        size, channels: of the images.

    Raises:
        FormatError: naming what has changed since the manifest, or is no image.
        ValueError: a person has too few images.
    """
    if setup.faces is None:
        images, labels = setup.train
        classes = setup.dataset.classes
        rows = np.concatenate(
            [np.flatnonzero(labels == label)[:_STAND_INS] for label in range(len(classes))]
        )
        labels = labels[rows].astype(np.int64)
        images = resize(images[rows], size, channels=channels)
        compared = False
        note = (
            f"No folder of faces was named (--faces): {len(rows)} images of the classes of "
            f"{setup.dataset.name} stand in for them, and nothing is compared."
        )
    else:
        kept = setup.out / "SHA256SUMS"
        manifest = find_manifest(setup.faces) or (kept if kept.is_file() else None)
        note = _checked(setup.faces, manifest)
        found = read_image_folder(setup.faces, size=size, channels=channels)
        images, labels, classes = found.images, found.labels, found.classes
        compared = _digest(setup.faces) == _ORL_SHA256
        if compared:
            note += " They are the ORL faces (credit: Olivetti Research Laboratory)."
    split = split_by_class(labels, SHARES, setup.seed, classes=classes)
    if setup.faces is not None and manifest is None:  # only of images that can be used
        write_manifest(setup.faces, kept)
    return People(
        {name: images[rows] for name, rows in zip(PARTS, split, strict=True)},
        {name: labels[rows] for name, rows in zip(PARTS, split, strict=True)},
        classes,
        (0, len(classes)),
        compared and not setup.quick and setup.epochs is None,
        note,
    )


def _checked(folder: Path, manifest: Path | None) -> str:
    """Check a folder against its manifest, where it has one; what was done, in words."""
    if manifest is None:
        return (
            "The folder of faces has no manifest: the SHA-256 of each image was written to "
            "SHA256SUMS beside this report, which the next run into this folder checks."
        )
    count = check_manifest(folder, manifest)
    return f"{count} images of faces, each with the SHA-256 that the manifest has for it."


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for _, files in list_images(folder):
        for file in files:
            digest.update((folder / file).read_bytes())
    return digest.hexdigest()
