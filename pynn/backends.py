"""Which kernels run: C++ ("native"), the NumPy reference ("numpy"), or a GPU ("cuda")."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType

from pynn import _core
from pynn.errors import BackendError

_MODULES: dict[str, ModuleType] = {"native": _core}
_NAMES = ("native", "numpy", "cuda")
PRECISIONS = ("float32", "tf32", "bf16")


def cuda_module() -> ModuleType:
    """The compiled CUDA back end.

    Raises:
        BackendError: it is not built, is another pynn's, or this machine lacks what it needs.
    """
    try:
        module = import_module("pynn._cuda")
    except ModuleNotFoundError as error:
        if error.name != "pynn._cuda":
            raise
        raise BackendError(
            "pynn was built without CUDA: there is no module pynn._cuda; install the wheel "
            "pynn-core-cuda13 beside pynn-core, or build with `pip install . "
            "-C cmake.define.PYNN_CUDA=ON`, which needs nvcc"
        ) from None
    except ImportError as error:
        raise BackendError(f"the module pynn._cuda does not load: {error}") from error
    missing: str = module.missing()
    if missing:
        raise BackendError(f"the CUDA back end cannot run here: {missing}")
    _tell_library_folders(module)
    return module


@cache
def _tell_library_folders(module: ModuleType) -> None:
    """Tell the module where NVIDIA's wheels put their libraries in this environment."""
    from glob import escape, glob
    from importlib.util import find_spec

    spec = find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or [])
    module.set_library_folders(
        [
            folder
            for root in dict.fromkeys([*roots, *(f"{path}/nvidia" for path in sys.path)])
            for folder in sorted(glob(f"{escape(root)}/*/lib"))
        ]
    )


def _check(name: str) -> str:
    if name not in _NAMES:
        raise BackendError(f"no back end is called {name!r}; choose from {', '.join(_NAMES)}")
    if name not in _MODULES:
        _MODULES[name] = cuda_module() if name == "cuda" else import_module("pynn.reference")
    return name


def _check_precision(name: str, precision: str | None) -> str:
    if precision is None:
        return "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if name != "cuda" and precision != "float32":
        raise BackendError(f"only the back end 'cuda' has precision {precision!r}, not {name!r}")
    return precision


def _default_name() -> str:
    asked = os.environ.get("PYNN_BACKEND") or "native"
    try:
        return _check(asked)
    except BackendError as error:
        raise BackendError(f"PYNN_BACKEND is {asked!r}: {error}") from None


_default = _default_name()
_current: ContextVar[str] = ContextVar("pynn_backend", default=_default)
_precision: ContextVar[str] = ContextVar("pynn_precision", default="float32")


def get_backend() -> str:
    """The name of the back end that runs now: "native", "numpy" or "cuda"."""
    return _current.get()


def get_precision() -> str:
    """How the current back end multiplies float32: "float32", or on a GPU "tf32" or "bf16"."""
    return _precision.get()


@contextmanager
def backend(name: str, *, precision: str | None = None) -> Iterator[None]:
    """Run what is inside the `with` block on another back end.

    Args:
        name: "native" (C++, the default), "numpy" (the readable reference) or "cuda" (a GPU).
        precision: on "cuda", how the products of float32 models are computed: "float32" (the
            default), "tf32" (factors rounded to 10 bits of fraction) or "bf16" (to 7 bits); sums,
            activations and parameters are float32 in each.

    Raises:
        BackendError: no back end has this name, or it is not available here; the message says what
            is missing.
        ValueError: no precision has this name.
    """
    precision = _check_precision(name, precision)
    token, precision_token = _current.set(_check(name)), _precision.set(precision)
    try:
        yield
    finally:
        _current.reset(token)
        _precision.reset(precision_token)


def kernels() -> ModuleType:
    """The module whose functions are the kernels of the current back end."""
    return _MODULES[_current.get()]
