"""Libraries of operators: shared libraries that export the tables of abi.h."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import Any

from pynn import _core
from pynn.errors import LibraryError
from pynn.ops import library as operators

# What is loaded, by path: when the file was last changed then, and its operators. A library stays
# in memory until the process ends.
LOADED: dict[Path, tuple[int, list[_core.LibraryOperator]]] = {}
SUFFIX = ".dll" if sys.platform == "win32" else ".so"  # as pynn_add_operators names them
_lock = threading.Lock()

_CAPSULE = b"pynn.library"  # a capsule keeps a pointer to its name


def load_library(library: str | os.PathLike[str] | object) -> list[str]:
    """Load operators from a shared library; each is `pynn.ops.<name>` afterwards, for arrays and
    in forward, and runs inside plans without Python.

    Args:
        library: path of a shared library that was built with `pynn/abi.h` or `pynn/op.hpp`, for
            this or an earlier version of pynn; its suffix may be left out. Or a capsule called
            "pynn.library" that points to a `pynn_library`, from an extension module. Only load
            what you trust: it is code.

    Returns:
        The names of its operators. A library that is loaded already is not loaded again.

    Raises:
        FileNotFoundError: there is no such file.
        LibraryError: it is not a library of operators, needs a newer pynn, or has an operator whose
            name is taken. Nothing has been added.
    """
    if isinstance(library, (str, os.PathLike)):
        return load_path(Path(library))
    with _lock:
        tables = _read(library, "the capsule")
        operators.add_all(tables)
    return [table.name for table in tables]


def load_path(path: Path, *, replace: bool = False) -> list[str]:
    """The same for a path; `replace`: operators of libraries give way to new ones of their name."""
    if not path.suffix and not path.exists():
        path = path.with_suffix(SUFFIX)
    if not path.exists():
        raise FileNotFoundError(f"there is no library {path}")
    path = path.resolve()
    changed = path.stat().st_mtime_ns
    with _lock:
        before, tables = LOADED.get(path) or (changed, _read_path(path))
        if before != changed:
            raise LibraryError(
                f"{path} has changed since it was loaded; load it in a new process, or under "
                "another name"
            )
        LOADED[path] = before, tables
        operators.add_all(tables, replace=replace)
    return [table.name for table in tables]


def path_of(table: _core.LibraryOperator) -> Path | None:
    """The file that an operator comes from; None for one from a capsule."""
    with _lock:
        return next((path for path, (_, tables) in LOADED.items() if table in tables), None)


def _read_path(path: Path) -> list[_core.LibraryOperator]:
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path} cannot be loaded: {error}") from None
    try:
        get_library = handle.pynn_get_library
    except AttributeError:
        raise LibraryError(
            f"{path} is not a library of operators: it does not export pynn_get_library"
        ) from None
    get_library.restype = ctypes.c_void_p
    address = get_library()
    if not address:
        raise LibraryError(f"{path}: pynn_get_library gave nothing")
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return _read(new_capsule(address, _CAPSULE, None), path.name)


def _read(capsule: Any, name: str) -> list[_core.LibraryOperator]:
    if type(capsule).__name__ != "PyCapsule":
        raise TypeError(f"a library is a path or a capsule, got {capsule!r}")
    return _core.read_library(capsule, name)
