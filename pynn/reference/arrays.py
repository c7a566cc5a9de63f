"""What an operator accepts, as in csrc/bindings/arrays.cpp and with the same messages."""

from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynn.errors import DTypeError, ShapeError

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = Sequence[int]
Pair: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | str

# Infinities and NaN go in and come out as in C, so the decorated function warns of none of them.
silent = np.errstate(all="ignore")


def _refuse(name: str, what: str) -> NoReturn:
    raise DTypeError(f"{name} must be a NumPy array of float32 or float64, got {what}")


def dense(name: str, value: object) -> Array:
    """`value` if it is an array of float32 or float64, made C-contiguous."""
    if not isinstance(value, np.ndarray):
        _refuse(name, type(value).__name__)
    if hasattr(value, "mask"):
        _refuse(name, f"a masked array; fill it first, with {name}.filled(value)")
    dtype = value.dtype
    if dtype.type not in (np.float32, np.float64):
        _refuse(name, f"dtype {dtype}; convert it first, with {name}.astype('float32')")
    if not dtype.isnative:
        _refuse(
            name,
            f"the other byte order (dtype {dtype}); convert it first, with {name}"
            f".astype('{dtype.name}')",
        )
    return np.asarray(value, order="C")


def dense_as(name: str, value: object, like: Array) -> Array:
    """The same, and of the dtype of `like`: operators never cast."""
    array = dense(name, value)
    if array.dtype != like.dtype:
        raise DTypeError(
            f"{name} is {array.dtype} but the other arrays are {like.dtype}; operators never cast: "
            "convert one of them with astype"
        )
    return array


def optional_dense_as(name: str, value: object, like: Array) -> Array | None:
    return None if value is None else dense_as(name, value, like)


def in_place(name: str, value: object, like: Array) -> Array:
    """An array to be updated in place: writable, C-contiguous, of the dtype of `like`."""
    if not isinstance(value, np.ndarray):
        _refuse(name, type(value).__name__)
    if value.dtype != like.dtype:
        raise DTypeError(f"{name} must be {like.dtype}, got {value.dtype}")
    if not (value.flags.writeable and value.flags.c_contiguous and value.flags.aligned):
        raise DTypeError(f"{name} is updated in place and must be a writable, C-contiguous array")
    return value


def shape_of(array: Array | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape


def require_shape(name: str, array: Array, expected: Shape) -> None:
    if array.shape != tuple(expected):
        raise ShapeError(f"{name} must have shape {tuple(expected)}, got {array.shape}")


def result(value: ArrayLike, like: Array) -> Array:
    """`value` as what an operator returns: C-contiguous, of the dtype of `like`."""
    return np.asarray(value, dtype=like.dtype, order="C")
