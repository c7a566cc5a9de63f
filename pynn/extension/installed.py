"""Operators of installed packages, which announce them by entry points."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from pynn.extension.library import load_library

GROUP = "pynn.operators"


def load_installed() -> list[str]:
    """Import every package that announces operators: one with an entry point of the group
    "pynn.operators" that names the package.

    Returns:
        What went wrong, in one line for each package that could not be imported.
    """
    problems = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            problems.append(f"operators of {entry.value} are not loaded: {error}")
    return problems


def load_named(library: str) -> None:
    """Load a shared library by its path, or a package by its name.

    Raises:
        FileNotFoundError, LibraryError, ImportError: it cannot be loaded.
    """
    if Path(library).suffix or os.sep in library or Path(library).exists():
        load_library(library)
    else:
        import_module(library)
