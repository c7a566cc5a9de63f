"""Arrays by name from NumPy's .npz files.

Files are read as hostile: no pickled objects, and sizes are checked before anything is unpacked.
Whatever is wrong becomes a FormatError that names the file.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any, NoReturn

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pynn.errors import FormatError

DEFAULT_LIMIT = 2 * 1024**3
_ENDING = ".npy"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(
    path: str | os.PathLike[str], *, limit: int = DEFAULT_LIMIT
) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz file, as `numpy.savez` and `numpy.savez_compressed` write it.

    Args:
        path: the file.
        limit: the most bytes to accept, unpacked.

    Raises:
        FormatError: the content is not what the format prescribes, holds Python objects, or exceeds
            the limit.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(path, archive, limit)
        except (FormatError, MemoryError):
            raise
        except Exception as error:  # of damaged archives Python raises many kinds
            _refuse(path, str(error) or type(error).__name__)


def _arrays(
    path: str | os.PathLike[str], archive: zipfile.ZipFile, limit: int
) -> dict[str, NDArray[Any]]:
    entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if size > limit:
        _refuse(path, f"{size} bytes exceed the limit of {limit}")
    arrays: dict[str, NDArray[Any]] = {}
    for entry in entries:
        name = entry.filename.removesuffix(_ENDING)
        if name == entry.filename or name in arrays:
            _refuse(path, f"the entry {entry.filename!r} is no array, or comes twice")
        with archive.open(entry) as file:
            arrays[name] = _array(path, name, file.read(entry.file_size + 1))
    return arrays


def _refuse(path: str | os.PathLike[str], problem: str) -> NoReturn:
    raise FormatError(f"{os.fspath(path)}: not a valid .npz file: {problem[:500]}")


def _array(path: str | os.PathLike[str], name: str, content: bytes) -> NDArray[Any]:
    """What an .npy file holds."""
    file = io.BytesIO(content)
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the format is not read")
        shape, fortran, dtype = _HEADERS[version](file)
    except Exception as error:  # the header is a Python literal: many kinds of wrong
        _refuse(path, f"the array {name!r} has no valid header ({error})")
    if dtype.hasobject:
        _refuse(path, f"the array {name!r} holds Python objects")
    if min(shape, default=0) < 0:
        _refuse(path, f"the array {name!r} has the shape {shape}")
    count = 1
    for length in shape:
        count *= length
    data = content[file.tell() :]
    if count * dtype.itemsize != len(data):
        _refuse(
            path,
            f"the array {name!r} of shape {shape} and dtype {dtype} takes "
            f"{count * dtype.itemsize} bytes, found {len(data)}",
        )
    array = np.frombuffer(data, dtype)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return array.astype(dtype.newbyteorder("="))
