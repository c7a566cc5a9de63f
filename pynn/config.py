"""What this installation of pynn is and runs on."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from pynn import _core, cuda
from pynn.backends import get_backend
from pynn.errors import BackendError


def config() -> dict[str, Any]:
    """Versions, instruction set, threads, back end, GPU: plain values by name."""
    return {
        "pynn": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "backend": get_backend(),
        "cuda": _cuda(),
        **{name: value for name, value in _core.config().items() if name != "version"},
    }


def _cuda() -> str:
    try:
        return cuda.describe()
    except BackendError as error:
        return str(error)


def show_config() -> None:
    """Print what this installation is and runs on: for reports of problems."""
    for name, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{name.replace('_', ' ')}: {text}")
