"""CIFAR-10 in its binary layout: records of a label and 3 x 32 x 32 bytes, red, green, blue.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". Files are read as hostile:
nothing is allocated beyond what is really there, and whatever is wrong becomes a FormatError that
names the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pynn.data.compressed import Source, opened
from pynn.data.dataset import Dataset
from pynn.errors import FormatError

RECORD = 1 + 3 * 32 * 32
DEFAULT_LIMIT = 256 * 1024**2
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_CHUNK = 1024**2


def read_cifar10(
    source: Source, *, limit: int = DEFAULT_LIMIT
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images and labels of one file, plain or gzip-compressed (as its first bytes tell).

    Args:
        source: a path, or a seekable binary file, which is read from its position to its end.
        limit: the most bytes to accept, unpacked.

    Returns:
        images (N, 3, 32, 32) and labels (N,) in 0..9.

    Raises:
        FormatError: the content is not what the format prescribes, or exceeds the limit.
        OSError: the file cannot be read.
    """
    data = bytearray()
    with opened(source) as (name, file):
        while chunk := file.read(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise FormatError(f"{name}: more than the limit of {limit} bytes")
    if not data or len(data) % RECORD:
        raise FormatError(
            f"{name}: not a valid CIFAR-10 file: {len(data)} bytes are not records of {RECORD}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    wrong = records[:, 0] >= len(CLASSES)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise FormatError(
            f"{name}: not a valid CIFAR-10 file: the label {records[row, 0]} of record {row} is "
            f"outside 0..{len(CLASSES) - 1}"
        )
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].copy()


def is_cifar10(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has training batches of CIFAR-10."""
    return any(_find(Path(folder), name) is not None for name in _TRAIN)


def cifar10(folder: str | os.PathLike[str]) -> Dataset:
    """Return CIFAR-10: 10 000 training images (N, 3, 32, 32) for each batch that is there, and the
    test images.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        folder: with data_batch_1.bin to data_batch_5.bin, or some of them, and test_batch.bin,
            plain or as .gz.

    Raises:
        FileNotFoundError: there is no training batch, or no test batch.
        FormatError: a file does not hold what it should.
    """
    root = Path(folder).expanduser()
    train = [path for name in _TRAIN if (path := _find(root, name)) is not None]
    test = _find(root, _TEST)
    if not train or test is None:
        missing = _TEST if train else _TRAIN[0]
        raise FileNotFoundError(
            f"{missing} (or {missing}.gz) is missing in the folder {root}; expected there are "
            f"{_TRAIN[0]} to {_TRAIN[-1]}, or some of them, and {_TEST}"
        )
    parts = [read_cifar10(path) for path in train]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    return Dataset("cifar-10", images, labels, *read_cifar10(test), CLASSES)


def _find(folder: Path, name: str) -> Path | None:
    return next((p for end in (".gz", "") if (p := folder / f"{name}{end}").is_file()), None)
