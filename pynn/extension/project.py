"""A new project of an operator, from a template."""

from __future__ import annotations

import keyword
import os
from importlib.resources import files
from pathlib import Path
from string import Template

import pynn

# Names whose project could not be built, or not beside pynn, and why.
_RESERVED = dict.fromkeys(
    ("all", "clean", "edit_cache", "help", "install", "preinstall", "rebuild_cache"),
    "CMake has a target of this name",
) | {
    "cmake": "its package would be pynn_cmake, which is pynn's own",
    "core": "its distribution would be pynn-core, which is pynn itself",
    "core_cuda13": "its distribution would be pynn-core-cuda13, which is pynn's own",
}
# Where each file of the template goes.
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "CMakeLists.txt": "CMakeLists.txt",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "operator.cpp": "src/{name}.cpp",
    "package.py": "pynn_{name}/__init__.py",
    "test.py": "tests/test_{name}.py",
}


def new_op(name: str, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a project that pip installs as `pynn_<name>`: one operator in C++, a layer, tests.

    Args:
        name: of the operator: lower-case letters, digits and underscores.
        folder: must be new, or empty.

    Returns:
        The files.

    Raises:
        ValueError: the name is taken, or none that an operator or its project can have.
        FileExistsError: there is something in the folder.
    """
    if not name.isidentifier() or not name.isascii() or name != name.lower():
        raise ValueError(
            f"an operator's name has lower-case letters, digits and underscores, got {name!r}"
        )
    if keyword.iskeyword(name) or name.startswith("_") or hasattr(pynn.ops, name):
        raise ValueError(f"pynn.ops cannot have an operator {name!r}: the name is taken")
    if name in _RESERVED:
        raise ValueError(f"a project cannot be called {name!r}: {_RESERVED[name]}")
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder")
    words = {
        "name": name,
        "type": "".join(word.capitalize() for word in name.split("_")),
        "distribution": f"pynn-{name.replace('_', '-')}",
        "version": ".".join(pynn.__version__.split(".")[:2]),
    }
    template = files("pynn.extension") / "template"
    written = []
    for source, place in _FILES.items():
        path = target / place.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (template / f"{source}.in").read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(path)
    return written
