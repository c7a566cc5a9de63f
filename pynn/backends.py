"""Which kernels run: C++ ("native"), the NumPy reference ("numpy"), or a GPU ("cuda")."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType

from pynn import _core
from pynn.errors import BackendError

_MODULES: dict[str, ModuleType] = {"native": _core}
_NAMES = ("native", "numpy", "cuda")


def _check(name: str) -> str:
    if name not in _NAMES:
        raise BackendError(f"no back end is called {name!r}; choose from {', '.join(_NAMES)}")
    if name == "cuda":
        raise BackendError("pynn was built without CUDA")
    if name not in _MODULES:
        _MODULES[name] = import_module("pynn.reference")
    return name


_default = _check(os.environ.get("PYNN_BACKEND") or "native")
_current: ContextVar[str] = ContextVar("pynn_backend", default=_default)


def get_backend() -> str:
    """The name of the back end that runs now: "native", "numpy" or "cuda"."""
    return _current.get()


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run what is inside the `with` block on another back end.

    Args:
        name: "native" (C++, the default), "numpy" (the readable reference) or "cuda".

    Raises:
        BackendError: no back end has this name, or it is not available here.
    """
    token = _current.set(_check(name))
    try:
        yield
    finally:
        _current.reset(token)


def kernels() -> ModuleType:
    """The module whose functions are the kernels of the current back end."""
    return _MODULES[_current.get()]
