"""Where this installation keeps what operators are built with."""

from __future__ import annotations

from pathlib import Path

import pynn


def get_include() -> str:
    """The folder of the headers: `#include <pynn/op.hpp>` with `-I` and this."""
    package = Path(pynn.__file__).parent
    installed = package / "include"
    if (installed / "pynn" / "abi.h").exists():
        return str(installed)
    return str(package.parent / "csrc" / "include")  # an editable installation


def get_cmake_dir() -> str:
    """The folder of pynnConfig.cmake: `find_package(pynn)` with `-Dpynn_DIR=` and this."""
    return str(Path(pynn.__file__).parent / "cmake")
