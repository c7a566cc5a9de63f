"""Operators by others: loading libraries, compiling them, and starting a project of one."""

from pynn.extension.inline import load_inline
from pynn.extension.library import load_library
from pynn.extension.paths import get_cmake_dir, get_include

__all__ = ["get_cmake_dir", "get_include", "load_inline", "load_library"]
