"""The IDX format of MNIST: two zero bytes, type, number of dimensions, sizes, elements; big-endian.

Format: http://yann.lecun.com/exdb/mnist/, "The IDX file format". Files are read as hostile: sizes
are checked before anything is allocated, and whatever is wrong becomes a FormatError that names the
file.
"""

import gzip
import math
import os
from contextlib import ExitStack
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from pynn.data.compressed import Readable, Source, opened
from pynn.errors import DTypeError, FormatError, ShapeError
from pynn.io.atomic import replacing

DEFAULT_LIMIT = 2 * 1024**3
_MAX_DIMS = 8
_CHUNK = 1024**2

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def read_idx(source: Source, *, limit: int = DEFAULT_LIMIT) -> NDArray[Any]:
    """Read an array from an IDX file, plain or gzip-compressed (as its first bytes tell).

    Args:
        source: a path, or a seekable binary file, which is read from its position to its end.
        limit: the largest array to accept, in bytes.

    Returns:
        A fresh array in native byte order, uint8, int8, int16, int32, float32 or float64.

    Raises:
        FormatError: the content is not what the format prescribes, or exceeds the limit.
        OSError: the file cannot be read.
    """
    with opened(source) as (name, file):
        return _read(name, file, limit)


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array to an IDX file; path holds the old content or all of the new one.

    Args:
        path: the file; gzip-compressed where its name ends in `.gz`.
        array: 1 to 8 dimensions, any layout and byte order; uint8, int8, int16, int32, float32 or
            float64.

    Raises:
        DTypeError, ShapeError: an array that the format cannot hold.
        OSError: the file cannot be written; an old file is left as it was.
    """
    dtype = array.dtype.newbyteorder(">")
    if dtype not in _CODES:
        raise DTypeError(
            "IDX files hold uint8, int8, int16, int32, float32 or float64, "
            f"got {array.dtype}; convert with astype first"
        )
    if not 1 <= array.ndim <= _MAX_DIMS or max(array.shape) >= 2**32:
        raise ShapeError(
            f"IDX arrays have 1 to {_MAX_DIMS} dimensions of less than 2**32, got {array.shape}"
        )
    header = bytes([0, 0, _CODES[dtype], array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    with ExitStack() as stack:
        file: BinaryIO | gzip.GzipFile = stack.enter_context(replacing(path))
        if os.fspath(path).endswith(".gz"):
            # No name and no time inside: equal arrays give equal files.
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
        file.write(header)
        file.write(np.asarray(array, dtype=dtype, order="C").data)


def _refuse(name: str, problem: str) -> NoReturn:
    raise FormatError(f"{name}: not a valid IDX file: {problem}")


def _read(name: str, file: Readable, limit: int) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4:
        _refuse(name, f"{len(magic)} bytes are too few for a header")
    if magic[:2] != b"\0\0":
        _refuse(name, f"it starts with {magic.hex(' ')}, not with 00 00")
    dtype = _DTYPES.get(magic[2])
    if dtype is None:
        _refuse(name, f"unknown element type 0x{magic[2]:02x}")
    dims = magic[3]
    if not 1 <= dims <= _MAX_DIMS:
        _refuse(name, f"{dims} dimensions, where 1 to {_MAX_DIMS} are expected")
    sizes = file.read(4 * dims)
    if len(sizes) < 4 * dims:
        _refuse(name, f"the header ends after {4 + len(sizes)} of {4 + 4 * dims} bytes")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * dims, 4))
    # Of an empty array too the other sizes must be ones that NumPy can multiply.
    if math.prod(size for size in shape if size) * dtype.itemsize > limit:
        _refuse(name, f"shape {shape} of {dtype.name} exceeds the limit of {limit} bytes")
    declared = math.prod(shape) * dtype.itemsize
    # Grows with what is really there: a false header in a short file costs nothing.
    data = bytearray()
    while len(data) < declared and (chunk := file.read(min(_CHUNK, declared - len(data)))):
        data += chunk
    if len(data) < declared:
        _refuse(name, f"shape {shape} of {dtype.name} takes {declared} bytes, found {len(data)}")
    if file.read(1):
        _refuse(name, f"data follows after the {declared} bytes of shape {shape}")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
