"""Operators from a string of C++: compiled with the machine's compiler, once for each content."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pynn.errors import BuildError
from pynn.extension.library import load_path
from pynn.extension.paths import get_include

_FLAGS = ("-std=c++17", "-O3", "-Wall", "-shared", "-fvisibility=hidden")
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
_SHOWN_LINES = 40  # of what a compiler says


def load_inline(source: str, *, flags: Sequence[str] = (), replace: bool = True) -> list[str]:
    """Compile operators from source code and load them, as `load_library` does.

    The library is kept in the user's cache under the hash of the source, the flags, the compiler
    and pynn's headers, so that it is compiled once.

    Args:
        source: C++17 that includes pynn/op.hpp and ends with PYNN_OPERATORS(...).
        flags: further arguments of the compiler, such as "-march=native".
        replace: whether operators of an earlier call, or of another library, give way to those of
            the same name; models that have been traced with them keep them.

    Returns:
        The names of the operators.

    Raises:
        TypeError: source is not a text, or flags are not a list of them.
        BuildError: there is no compiler, or the source does not compile; the message has what the
            compiler says. The compiler is $CXX, or else c++, g++ or clang++. Or the cache cannot be
            written.
        LibraryError: what was compiled is not a library of operators, or a name is taken.
    """
    return load_path(compile_library(source, flags), replace=replace)


def compile_library(source: str, flags: Sequence[str] = ()) -> Path:
    """The shared library of this source, compiled where the cache does not have it."""
    from pynn.data.fetch import cache_folder  # takes its time: it imports what downloads need

    if not isinstance(source, str):
        raise TypeError(f"source must be the text of a program in C++, got {source!r}")
    if (
        not isinstance(flags, Sequence)
        or isinstance(flags, str)
        or not all(isinstance(flag, str) for flag in flags)
    ):
        raise TypeError(f"flags must be a list of arguments, such as ['-O2'], got {flags!r}")
    compiler = _compiler()
    platform = () if sys.platform == "win32" else ("-fPIC",)
    arguments = (*_FLAGS, *platform, *flags)
    headers = Path(get_include()) / "pynn"
    content = [
        source.encode(),
        *(path.read_bytes() for path in sorted(headers.iterdir())),
        shlex.join([*compiler, *arguments]).encode(),
        _version(compiler).encode(),
    ]
    lengths = repr([len(part) for part in content]).encode()
    key = hashlib.sha256(b"".join([lengths, *content])).hexdigest()
    folder = _private_folder(cache_folder() / "inline")
    library = folder / (key[:32] + _SUFFIXES.get(sys.platform, ".so"))
    if library.exists():
        return library
    with _temporary_folder(folder) as temporary:
        path, built = Path(temporary) / "source.cpp", Path(temporary) / library.name
        path.write_text(source, encoding="utf-8")
        command = [*compiler, *arguments, f"-I{headers.parent}", str(path), "-o", str(built)]
        done = _run(command)
        if done.returncode != 0 or not built.exists():
            said = (done.stderr + done.stdout).strip().splitlines()
            raise BuildError(
                "\n".join([
                    f"the compiler gave exit status {done.returncode}: {shlex.join(command)}",
                    *_shown(said),
                ])
            )  # fmt: skip
        _place(built, library)
    return library


def _shown(said: list[str]) -> list[str]:
    """What a compiler says, cut to what can be read: warnings may come before the first error."""
    if len(said) <= _SHOWN_LINES:
        return said
    errors = [number for number, line in enumerate(said) if "error" in line]
    first = errors[0] if errors and errors[0] >= _SHOWN_LINES // 2 else 0
    shown = said[first : first + _SHOWN_LINES]
    left = len(said) - len(shown)
    return [*shown, f"... and {left} more lines"] if left else shown


def _place(built: Path, library: Path) -> None:
    """Where several compiled the same at once the first stays: it may have been loaded already."""
    with open(built, "r+b") as file:  # half a library, left by a power cut, would kill its loader
        os.fsync(file.fileno())
    try:
        if os.name == "nt":
            os.rename(built, library)
        else:
            os.link(built, library)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(built, library)


def _compiler() -> list[str]:
    chosen = os.environ.get("CXX")
    if chosen:
        try:
            return shlex.split(chosen)
        except ValueError as error:
            raise BuildError(f"CXX={chosen} names no compiler: {error}") from None
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildError(
        "there is no C++ compiler here: install g++ or clang++, or set CXX to one, or load a "
        "library that was built elsewhere with pynn.load_library"
    )


def _version(compiler: list[str]) -> str:
    done = _run([*compiler, "--version"])
    if done.returncode != 0:
        raise BuildError(
            f"{shlex.join(compiler)} is no C++ compiler that pynn knows: `--version` gave exit "
            f"status {done.returncode}"
        )
    return done.stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise BuildError(f"the compiler {command[0]} cannot be run: {error.strerror}") from None


def _private_folder(folder: Path) -> Path:
    """What is loaded from here is run: nobody else may write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _not_writable(folder, error) from None
    if os.name != "nt":
        state = folder.stat()
        if state.st_uid != os.getuid() or state.st_mode & 0o022:
            raise BuildError(
                f"others than you can write to {folder}, from which code is loaded: "
                f"`chmod 700` it, or set PYNN_DATA to a folder of your own"
            )
    return folder


def _temporary_folder(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder: Path, error: OSError) -> BuildError:
    return BuildError(
        f"{folder}, where compiled operators are kept, cannot be written: {error.strerror}; set "
        "PYNN_DATA to a folder of your own"
    )
