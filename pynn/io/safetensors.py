"""The safetensors format: 8 bytes header length (little-endian), a JSON header, the data.

Format: https://huggingface.co/docs/safetensors/index#format. Written and read with NumPy alone.
Files are read as hostile: every number is checked against the size of the file before anything is
allocated, and whatever is wrong becomes a FormatError that names the file.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from pynn.errors import DTypeError, FormatError
from pynn.graph import plain_array
from pynn.io.atomic import replacing

MAX_HEADER_BYTES = 16 * 1024**2
_MAX_DIMS = 64  # NumPy's own limit
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BFLOAT16 = "BF16"  # the upper half of a float32, which NumPy has not; read alone
_STORED = _DTYPES | {_BFLOAT16: np.dtype("<u2")}


@dataclass(frozen=True)
class _Entry:
    """One tensor of a header that has been checked: offsets count from the start of the data."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the bytes in the file."""
        return _STORED[self.kind]


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to a safetensors file; path holds the old content or all of the new one.

    Args:
        path: the file, replaced if it exists.
        tensors: arrays by name, such as `model.state_dict()`, of any shape, layout and byte order;
            written dense, little-endian. dtypes: float64, float32, float16, (u)int64, (u)int32,
            (u)int16, (u)int8, bool.
        metadata: further text by name.

    Raises:
        DTypeError: a dtype that the format does not have.
        TypeError, ValueError: no arrays by name; a name or a metadata entry that is not text, or is
            reserved.
        OSError: the file cannot be written; an old file is left as it was.
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(
            "tensors must be arrays by name, such as model.state_dict(), got "
            f"{type(tensors).__name__}"
        )
    header: dict[str, Any] = {}
    if metadata:
        for key, text in metadata.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise TypeError(f"metadata must map str to str, got {key!r}: {text!r}")
        header[_METADATA] = dict(metadata)
    arrays = {name: _little_endian(name, tensor) for name, tensor in tensors.items()}
    # Wide types first, so that every tensor is aligned; the header keeps the order of `tensors`.
    in_file_order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    offsets: dict[str, list[int]] = {}
    end = 0
    for name in in_file_order:
        offsets[name] = [end, end + arrays[name].nbytes]
        end += arrays[name].nbytes
    for name, array in arrays.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": offsets[name],
        }
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(f"the header takes {len(encoded)} bytes, more than {MAX_HEADER_BYTES}")
    with replacing(path) as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in in_file_order:
            file.write(arrays[name].data)


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file, by name, in the order of its header.

    Returns:
        Fresh, C-contiguous arrays in native byte order; bfloat16, which NumPy has not, as float32.

    Raises:
        FormatError: the content is not what the format prescribes, or has another dtype that NumPy
            lacks.
        OSError: the file cannot be read.
    """
    tensors: dict[str, NDArray[Any]] = {}
    with open(path, "rb") as file:
        entries, _, data_start = _read_header(path, file)
        for entry in entries:
            array = np.empty(entry.shape, entry.dtype)
            file.seek(data_start + entry.begin)
            if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                _refuse(path, f"tensor {entry.name!r}: the file shrank while it was read")
            if entry.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
                _refuse(path, f"tensor {entry.name!r}: a BOOL is neither 0 nor 1")
            if entry.kind == _BFLOAT16:
                array = (array.astype(np.uint32) << 16).view(np.float32)
            tensors[entry.name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a safetensors file: text by name, empty if there is none.

    Raises:
        FormatError: the header is not what the format prescribes.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return _read_header(path, file)[1]


def _refuse(path: str | os.PathLike[str], problem: str) -> NoReturn:
    if len(problem) > 500:  # names and numbers of a hostile file may be millions of characters long
        problem = problem[:500] + "..."
    raise FormatError(f"{os.fspath(path)}: not a valid safetensors file: {problem}")


def _little_endian(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    if not isinstance(name, str):
        raise TypeError(f"tensor names must be str, got {name!r}")
    if name == _METADATA:
        raise ValueError(f"the name {_METADATA!r} is reserved; pass metadata= instead")
    array = plain_array(f"tensor {name!r}", tensor)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise DTypeError(f"tensor {name!r}: safetensors has no dtype {array.dtype}")
    return np.asarray(array, dtype=dtype, order="C")


def _read_header(
    path: str | os.PathLike[str], file: BinaryIO
) -> tuple[list[_Entry], dict[str, str], int]:
    """Return the checked entries, the metadata and the position where the data starts."""
    file_size = os.fstat(file.fileno()).st_size
    if file_size < 8:
        _refuse(path, f"{file_size} bytes are too few for the header length")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        _refuse(path, f"a header of {length} bytes exceeds the limit of {MAX_HEADER_BYTES}")
    if length > file_size - 8:
        _refuse(path, f"a header of {length} bytes does not fit in a file of {file_size} bytes")
    header = _parse_json(path, file.read(length))
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, f"{_METADATA} must map text to text")
    entries = [_check_entry(path, name, entry) for name, entry in header.items()]
    data_size = file_size - 8 - length
    end, previous = 0, "the header"
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            _refuse(
                path,
                f"tensor {entry.name!r} starts at byte {entry.begin} of the data, "
                f"but {previous} ends at {end}",
            )
        end, previous = entry.end, f"tensor {entry.name!r}"
    if end != data_size:
        _refuse(path, f"the tensors take {end} bytes, but the file holds {data_size}")
    return entries, metadata, 8 + length


def _parse_json(path: str | os.PathLike[str], raw: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key occurs twice")
        return result

    def no_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    if not raw.startswith(b"{"):
        _refuse(path, "the header is not a JSON object")
    try:
        header = json.loads(
            raw.decode(), object_pairs_hook=without_duplicates, parse_constant=no_constant
        )
        # Escapes may spell lone surrogates, which are no text.
        json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: also bad UTF-8 and huge numbers
        _refuse(path, f"the header is not valid JSON ({error})")
    assert isinstance(header, dict)
    return header


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _check_entry(path: str | os.PathLike[str], name: str, entry: object) -> _Entry:
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        _refuse(path, f"tensor {name!r} must have dtype, shape and data_offsets, and no more")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str):
        _refuse(path, f"tensor {name!r} has the dtype {kind!r}")
    if kind not in _STORED:  # the format has more of them, and gets more
        raise FormatError(
            f"{os.fspath(path)}: tensor {name[:200]!r} has the dtype {kind[:50]!r}, which is not "
            f"one of those that pynn reads: {', '.join(_STORED)}"
        )
    dtype = _STORED[kind]
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        _refuse(path, f"tensor {name!r}: the shape {shape!r} is not a list of sizes")
    if len(shape) > _MAX_DIMS:
        _refuse(path, f"tensor {name!r} has {len(shape)} dimensions, more than {_MAX_DIMS}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        _refuse(path, f"tensor {name!r}: data_offsets {offsets!r} are not two positions")
    begin, end = offsets
    # Also of an empty array the other sizes must be ones that NumPy can multiply.
    if math.prod(size for size in shape if size) * dtype.itemsize >= 2**63:
        _refuse(path, f"tensor {name!r}: the shape {shape!r} is too large")
    expected = math.prod(shape) * dtype.itemsize
    if end - begin != expected:
        _refuse(
            path,
            f"tensor {name!r} of shape {tuple(shape)} and dtype {kind} takes {expected} "
            f"bytes, but data_offsets are {begin}..{end}",
        )
    return _Entry(name, kind, tuple(shape), begin, end)
