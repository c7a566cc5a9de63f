"""Exceptions of pynn. Each says what was expected, what came and where; all derive from
PynnError."""

from collections.abc import Sequence
from typing import Any


class PynnError(Exception):
    """Base of every exception that pynn raises on purpose."""


class ShapeError(PynnError, ValueError):
    """The shape of an array does not fit."""


class DTypeError(PynnError, TypeError):
    """The dtype or the type of an array does not fit."""


class LabelError(PynnError, ValueError):
    """A class label lies outside its range."""


class NonFiniteError(PynnError, ValueError):
    """A loss is infinite or not a number: training has diverged.

    Attributes:
        history: from `pynn.fit`, the epochs before (a `train.History`); otherwise None.
    """

    history: Any = None


class FormatError(PynnError, ValueError):
    """The content of a file is not what its format prescribes, or more than a format can say."""


class StateError(PynnError, RuntimeError):
    """A call came out of order, such as backward before forward."""


class BackendError(PynnError, RuntimeError):
    """A back end is not available here."""


class DeviceError(PynnError, RuntimeError):
    """The GPU failed. The process goes on: the next call begins anew where the device was lost."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The memory of the GPU does not suffice. What was there before is as it was."""


class LibraryError(PynnError, ValueError):
    """A library of operators cannot be loaded."""


class OperatorError(PynnError, RuntimeError):
    """An operator of a library failed while it ran, or broke a promise."""


class BuildError(PynnError, RuntimeError):
    """Source code of an operator could not be compiled."""


class MissingExtraError(PynnError, ImportError):
    """An optional dependency is not installed."""


class DownloadError(PynnError, OSError):
    """A data file could not be downloaded."""


def some_of(names: Sequence[str], most: int) -> str:
    """The first names of many, for a message: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
