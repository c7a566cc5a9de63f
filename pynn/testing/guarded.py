"""Runs an operator of a library on memory whose neighbours are forbidden: `python -m
pynn.testing.guarded LIBRARY NAME`.

Standard output has one JSON object a line: {"running": what} before each call, {"failed": why}
where one failed, {"done": calls} at the end. A process that ends without it was stopped by what it
was running. What the operator itself prints goes to standard error."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

import pynn
from pynn import _core
from pynn.graph import OPERATORS, Array
from pynn.testing.declared import declared_entry
from pynn.testing.samples import Case

_NO_ACCESS, _READ_ONLY, _READ_WRITE = 0, 1, 3  # PROT_* of POSIX
_POISON = 0xA5
PLACES = ("behind", "before", "in")  # the end of what is forbidden: behind an array, before it; or
# writing to it at all


class Guarded:
    """Memory with a forbidden page before it and one behind it."""

    def __init__(self, nbytes: int, place: str, alignment: int) -> None:
        page = mmap.PAGESIZE
        inner = max(1, -(-nbytes // page)) * page
        self._pages = mmap.mmap(-1, inner + 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self._inner = address + page, inner
        offset = 0 if place == "before" else (inner - nbytes) // alignment * alignment
        whole = np.frombuffer(self._pages, np.uint8)
        self.bytes = whole[page + offset : page + offset + nbytes]
        self.slack = whole[page + offset + nbytes : page + inner]
        self.bytes[...] = _POISON
        self.slack[...] = _POISON
        _protect(address, page, _NO_ACCESS)
        _protect(address + page + inner, page, _NO_ACCESS)

    def forbid_writing(self) -> None:
        """From now on, the array can only be read."""
        _protect(*self._inner, _READ_ONLY)

    def slack_is_untouched(self) -> bool:
        """Whether the bytes between the array and the forbidden page are as they were."""
        return bool(np.all(self.slack == _POISON))


def _protect(address: int, size: int, protection: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if library.mprotect(address, size, protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


class Memory:
    """Gives out arrays; the one called `guarded` lies in guarded memory."""

    def __init__(self, guarded: str, place: str) -> None:
        self.guarded, self.place = guarded, place
        self.guard: Guarded | None = None

    def array(self, name: str, content: Array, *, read_only: bool) -> Array:
        """An array with this content."""
        array = self._lay(name, content.nbytes, content.itemsize)
        result = array.view(content.dtype).reshape(content.shape)
        result[...] = content
        if read_only and self.guard is not None and name == self.guarded and self.place == "in":
            self.guard.forbid_writing()
        return result

    def bytes(self, name: str, nbytes: int) -> Array | None:
        """Bytes aligned to 64, or None for none."""
        return self._lay(name, nbytes, 64) if nbytes else None

    def _lay(self, name: str, nbytes: int, alignment: int) -> Array:
        if name == self.guarded:
            self.guard = Guarded(nbytes, self.place, alignment)
            return self.guard.bytes
        whole = np.full(nbytes + 64, _POISON, np.uint8)
        start = -whole.ctypes.data % 64
        return whole[start : start + nbytes]


class Calls:
    """Forward and backward of one case in one dtype, again and again, each time with another array
    in guarded memory."""

    def __init__(self, table: _core.LibraryOperator, case: Case, dtype: str) -> None:
        self.table, self.case, self.dtype = table, case, dtype
        self.inputs = case.arrays(dtype)
        self.names = [name for name, *_ in table.inputs]
        shapes = [None if array is None else array.shape for array in self.inputs]
        self.y_shape = table.shape(shapes, case.attributes)
        self.memory = table.memory(shapes, dtype == "float64", case.attributes)

    def forward(self, memory: Memory) -> tuple[list[Array | None], Array, Array | None]:
        """The inputs, y, and what forward saved."""
        inputs = [
            None if array is None else memory.array(name, array, read_only=True)
            for name, array in zip(self.names, self.inputs, strict=True)
        ]
        y = memory.array("y", np.zeros(self.y_shape, self.dtype), read_only=False)
        saved = memory.bytes("saved", self.memory[0])
        workspace = memory.bytes("workspace", self.memory[1])
        self.table.forward_into(inputs, y, saved, workspace, self.case.attributes)
        return inputs, y, saved

    def backward(self, memory: Memory) -> None:
        """Backward, after a forward on ordinary memory."""
        inputs, y, saved = self.forward(Memory("", ""))
        dy = memory.array("dy", self.case._weights(self.y_shape).astype(self.dtype), read_only=True)
        inputs = [
            None if array is None else memory.array(name, array, read_only=True)
            for name, array in zip(self.names, inputs, strict=True)
        ]
        y = memory.array("y", y, read_only=True)
        if saved is not None:
            kept = saved
            saved = memory.bytes("saved", kept.nbytes)
            assert saved is not None
            saved[...] = kept
        workspace = memory.bytes("workspace", self.memory[2])
        gradients = [
            memory.array(f"d{name}", np.zeros_like(array), read_only=False)
            if array is not None and gradient
            else None
            for (name, _, _, _, gradient), array in zip(self.table.inputs, inputs, strict=True)
        ]
        self.table.backward_into(dy, inputs, y, saved, workspace, gradients, self.case.attributes)

    def all(self) -> Iterator[tuple[str, str, str, Callable[[Memory], object]]]:
        """(pass, array, place, call) for everything that is to be tried."""
        present = [
            name for name, array in zip(self.names, self.inputs, strict=True) if array is not None
        ]
        saved, forward, backward = (size > 0 for size in self.memory)
        written = ["y", *["saved"] * saved, *["workspace"] * forward]
        passes: list[tuple[str, list[str], list[str], Callable[[Memory], object]]] = [
            ("forward", present, written, self.forward)
        ]
        if self.table.differentiable:
            written = [f"d{name}" for name in present]
            written += [*["saved"] * saved, *["workspace"] * backward]
            passes.append(("backward", ["dy", *present, "y"], written, self.backward))
        for name, read, written, call in passes:
            for array in [*read, *written]:
                for place in PLACES if array in read else PLACES[:2]:
                    yield name, array, place, call


Say = Callable[..., None]


def _say_to_standard_output() -> Say:
    """A function for the lines, which from now on are all that is written there."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return lambda **line: print(json.dumps(line), file=lines, flush=True)


def run(table: _core.LibraryOperator, say: Say) -> None:
    """Try all cases of an operator; see the module."""
    calls = 0
    for case in declared_entry(table).cases:
        for dtype in ("float32", "float64"):
            where = f"{case.name}, {dtype}"
            try:
                tried = Calls(table, case, dtype)
                for which, array, place, call in tried.all():
                    say(running=[where, which, array, place])
                    memory = Memory(array, place)
                    call(memory)
                    calls += 1
                    if memory.guard is not None and not memory.guard.slack_is_untouched():
                        say(failed=f"{where}: {which} writes behind the end of {array}")
            except Exception as error:
                say(failed=f"{where}: {error}")
    say(done=calls)


if __name__ == "__main__":
    say = _say_to_standard_output()
    pynn.set_num_threads(1)
    pynn.load_library(sys.argv[1])
    run(OPERATORS[sys.argv[2]].library, say)
