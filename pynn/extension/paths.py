"""Where this installation keeps what operators are built with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pynn
from pynn.errors import StateError


def get_include() -> str:
    """The folder of the headers: `#include <pynn/op.hpp>` with `-I` and this."""
    package = Path(pynn.__file__).parent
    installed = package / "include"
    if (installed / "pynn" / "abi.h").exists():
        return str(installed)
    return str(package.parent / "csrc" / "include")  # an editable installation


def get_cmake_dir() -> str:
    """The folder of pynnConfig.cmake: `find_package(pynn)` with `-Dpynn_DIR=` and this.

    Raises:
        StateError: pynn runs from a folder of sources that is not installed.
    """
    spec = find_spec("pynn_cmake")
    if spec is None or spec.origin is None:
        raise StateError("pynn's CMake package is not installed: install pynn with pip")
    return str(Path(spec.origin).parent)
