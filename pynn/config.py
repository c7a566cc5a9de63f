"""What this installation of pynn is and runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from pynn import _core, cuda
from pynn.backends import get_backend
from pynn.errors import BackendError


def config() -> dict[str, Any]:
    """Versions, processor, memory, instruction set, threads, back end, GPU: plain values by name.
    Memory in GiB, None where the system does not tell."""
    return {
        "pynn": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "memory_gib": _memory(),
        "backend": get_backend(),
        "cuda": _cuda(),
        **{name: value for name, value in _core.config().items() if name != "version"},
    }


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        told = []
    names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # there is no such question on Windows
        return None


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
