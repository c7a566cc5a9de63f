"""What a kept run depends on, in a few letters that are the same in every process."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from numbers import Number
from pathlib import PurePath
from types import CodeType, EllipsisType, FunctionType, ModuleType
from typing import Any

import numpy as np

import pynn
from pynn.backends import get_precision

# Their repr says all there is to them, and no address.
_PLAIN = (Number, str, bytes, PurePath, np.dtype, slice, range, EllipsisType, type(None))
# Other classes of arrays may hold more than their elements, such as a unit.
_ARRAYS = (np.ndarray, np.memmap)


def digest_of(value: Any, where: str) -> str:
    """Some letters that tell a value from others.

    Args:
        value: plain values, arrays, dataclasses, classes, functions and containers of them.
        where: what the value is, for the message.

    Raises:
        TypeError: it holds something else.
    """
    digest = _Digest()
    digest.add(value, where)
    return digest.letters()


def identity(function: Callable[..., Any], seed: int, data: str) -> str:
    """What the runs of a sweep depend on besides their settings; data is the digest of the data.

    Raises:
        TypeError: function is none, or holds what `digest_of` refuses.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"a sweep runs a function, got {function!r}; what a partial binds belongs into the "
            "settings, and so does what the object of a method holds"
        )
    module = inspect.getmodule(function)
    try:
        source = inspect.getsource(function if module is None else module)
    except (OSError, TypeError):  # typed into a notebook, which keeps the text of functions
        source = inspect.getsource(function)
    kernels = [pynn.get_backend(), get_precision(), *["winograd"] * pynn.get_winograd()]
    digest = _Digest(function.__module__)
    digest.add_function(function, whole=True)
    digest.add([source, seed, data, pynn.__version__, *kernels], function.__qualname__)
    return digest.letters()


class _Digest:
    """Takes in one value after the other.

    Args:
        home: the name of the module that the sweep's function is from.
        seen: functions and classes that were taken in before, each of which may hold itself.
    """

    def __init__(self, home: str = "", seen: Iterable[FunctionType | type] = ()) -> None:
        self._hash = hashlib.sha256()
        self._home, self._seen = home, list(seen)

    def letters(self) -> str:
        """Sixteen letters for all values so far."""
        return self._hash.hexdigest()[:16]

    def add(self, value: Any, where: str) -> None:
        """Take in a value; see `digest_of`."""
        if isinstance(value, Enum):
            held = value.value if isinstance(value.value, _PLAIN) else None
            self._text(f"{_name(type(value))}.{value.name}:{held!r}")
        elif isinstance(value, np.ma.MaskedArray):
            parts = np.ma.getdata(value, subok=False), np.ma.getmaskarray(value), value.fill_value
            self.add(parts, where)
        elif isinstance(value, np.generic) or type(value) in _ARRAYS:
            kind = type(value).__name__ if isinstance(value, np.generic) else "array"
            self._add_array(kind, np.asarray(value), where)
        elif isinstance(value, _PLAIN):
            self._text(f"{type(value).__name__}:{value!r}")
        elif is_dataclass(value) and not isinstance(value, type):
            self._text(f"{_name(type(value))}{len(fields(value))}")
            for each in fields(value):
                self.add([each.name, getattr(value, each.name)], f"{where}.{each.name}")
        elif isinstance(value, Mapping):
            self._text(f"mapping{len(value)}")
            for key in sorted(value, key=lambda key: self._alone(key, where)):
                self.add([key, value[key]], f"{where}[{key!r}]")
        elif isinstance(value, (set, frozenset)):
            self._text(f"set{sorted(self._alone(each, where) for each in value)}")
        elif isinstance(value, (list, tuple)):
            self._text(f"list{len(value)}")
            for each in value:
                self.add(each, where)
        elif isinstance(value, FunctionType):
            self.add_function(value)
        elif isinstance(value, type) and not _is_elsewhere(value, self._home):
            self._add_class(value)
        elif isinstance(value, (type, ModuleType)) or _is_importable(value):
            self._text(_name(value))
        else:
            raise _refusal(f"a {type(value).__name__}", where)

    def add_function(self, function: FunctionType, *, whole: bool = False) -> None:
        """Take in what a function does, and what it holds: its defaults, the variables around it,
        the globals that it reads. One of another module, which has it under its own name, counts by
        what it does alone, unless it is to be taken as a whole."""
        if self._has_seen(function):
            return
        name = function.__qualname__
        self.add([name, *_instructions(function.__code__)], name)
        if not whole and _is_elsewhere(function, self._home):
            return
        self.add(_defaults(function), f"a default of {name}")
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self.add([variable, value], f"{variable}, a variable around {name},")
        self.add(_read_globals(function), name)

    def _add_class(self, kind: type) -> None:
        """Take in what a class is made of; attributes of kinds that `add` refuses count by name."""
        if self._has_seen(kind):
            return
        self.add([_name(kind), *kind.__bases__], kind.__qualname__)
        for name, value in _attributes(kind):
            try:
                digest = self._alone(value, name)
            except TypeError:
                digest = type(value).__name__
            self._text(f"{name}:{digest}")

    def _has_seen(self, value: FunctionType | type) -> bool:
        """Whether a function or a class has been taken in before; from now on, it has."""
        for number, each in enumerate(self._seen):
            if each is value:
                self._text(f"seen{number}")
                return True
        self._seen.append(value)
        return False

    def _add_array(self, kind: str, array: np.ndarray[Any, Any], where: str) -> None:
        if array.dtype.hasobject:
            raise _refusal("an array of Python objects", where)
        self._text(f"{kind}{array.dtype}{array.shape}")
        content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._hash.update(content)

    def _alone(self, value: Any, where: str) -> str:
        """The digest of one value, for an order of those that have none."""
        digest = _Digest(self._home, self._seen)
        digest.add(value, where)
        return digest.letters()

    def _text(self, text: str) -> None:
        self._hash.update(f"{text};".encode())


def _refusal(what: str, where: str) -> TypeError:
    return TypeError(
        f"{where} is or holds {what}, by which runs of a sweep cannot be told apart; expected "
        "None, numbers, texts, bytes, paths, enums, NumPy arrays, dataclasses, lists, tuples, sets "
        "and dictionaries of them, classes or functions. Make other objects within the function"
    )


def _name(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    return f"{value.__module__}.{value.__qualname__}"


def _is_importable(value: Any) -> bool:
    """Whether a module has it under its own name."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is value


def _is_elsewhere(value: FunctionType | type, home: str) -> bool:
    """Whether a module that is not the sweep's own has it under its own name."""
    return value.__module__ not in ("__main__", home) and _is_importable(value)


def _attributes(kind: type) -> Iterator[tuple[str, Any]]:
    """What stands in a class, by name: functions, where they are of methods or properties, too."""
    for name, value in vars(kind).items():
        if isinstance(value, property):
            yield from ((name, part) for part in (value.fget, value.fset, value.fdel))
        elif isinstance(value, (staticmethod, classmethod)):
            yield name, value.__func__
        elif name != "__static_attributes__":  # which Python 3.13 has in any order
            yield name, value


def _instructions(code: CodeType) -> Iterator[Any]:
    """What tells apart two functions that have one name and stand in the same module."""
    yield from (code.co_code, code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield constant


def _defaults(function: FunctionType) -> list[Any]:
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]


def _read_globals(function: FunctionType) -> dict[str, Any]:
    """What a function reads of the module that it stands in: values that do not change, arrays, and
    functions, by their instructions and such defaults, those of classes among them; and what these
    read."""
    namespace = function.__globals__
    found: dict[str, Any] = {}
    assigned = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname == "STORE_GLOBAL":
                assigned.add(name)
            if instruction.opname not in ("LOAD_GLOBAL", "LOAD_NAME"):
                continue
            if name not in namespace or name in found or name.startswith("__"):
                continue
            value = namespace[name]
            if isinstance(value, type) and value.__module__ == namespace.get("__name__"):
                here = [each for each in value.__mro__ if each.__module__ == value.__module__]
                held = [pair for each in here for pair in _attributes(each)]
            else:
                held = [(name, value)]
            told = []
            for part, each in held:
                if isinstance(each, FunctionType) and each.__globals__ is namespace:
                    defaults = [default for default in _defaults(each) if _is_constant(default)]
                    told.append([part, *_instructions(each.__code__), *defaults])
                    waiting.append(each.__code__)
                elif _is_constant(each):
                    told.append([part, each])
            if told:
                found[name] = told
    # What they assign is a counter or a cache, another after each run.
    return {name: value for name, value in found.items() if name not in assigned}


def _is_constant(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_constant, value))
    if isinstance(value, (np.generic, np.ma.MaskedArray)) or type(value) in _ARRAYS:
        return not value.dtype.hasobject
    return isinstance(value, (Enum, *_PLAIN))
