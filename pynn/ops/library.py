"""Operators of libraries: a table of functions becomes `pynn.ops.<name>`, for arrays and in
forward."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from pynn import _core
from pynn.errors import LibraryError
from pynn.graph import OPERATORS, REGISTERING, Array, Operator, Variable, record
from pynn.ops.python import REGISTERED
from pynn.random import get_seed

# What functions of random operators take beside their own arguments, as `ops.dropout` does.
_RANDOM = {"seed": None, "step": 0, "node": 0, "first_sample": 0}


def add_all(tables: Sequence[_core.LibraryOperator], *, replace: bool = False) -> None:
    """Make operators `pynn.ops.<name>`: all of them, or none.

    Args:
        tables: operators of one library; those that are there already stay as they are.
        replace: whether operators of libraries give way to new ones of the same name; graphs that
            have them keep them.

    Raises:
        LibraryError: a name is taken, or is none that Python can say.
    """
    with REGISTERING:
        new = [table for table in tables if _known(table.name) is not table]
        old = [table.name for table in new if replace and _known(table.name) is not None]
        free = {*old, *(f"{name}_backward" for name in old)}
        for table in new:
            _check(table, free)
        # In place: at no moment does another thread find nothing under a name.
        added = {name: function for table in new for name, function in _add(table).items()}
        for name in free - added.keys():
            REGISTERED.pop(name, None)


def _known(name: str) -> _core.LibraryOperator | None:
    """The operator of a library that has this name now."""
    operator = OPERATORS.get(name)
    return operator.library if operator is not None else None


def _check(table: _core.LibraryOperator, free: set[str]) -> None:
    ops = import_module("pynn.ops")
    functions = [table.name] + ([f"{table.name}_backward"] if table.differentiable else [])
    for name in functions:
        if name not in free and hasattr(ops, name):
            raise LibraryError(f"{table.library}: pynn.ops has something called {name!r} already")
    reserved = {"dy", *(_RANDOM if table.random else ())}
    for name in (table.name, *(name for name, *_ in (*table.inputs, *table.attributes))):
        if keyword.iskeyword(name) or name in reserved or name.startswith("_"):
            raise LibraryError(f"{table.library}: {table.name}: nothing may be called {name!r}")


def _add(table: _core.LibraryOperator) -> dict[str, Callable[..., Any]]:
    functions = {table.name: _function(table)}
    if table.differentiable:
        functions[f"{table.name}_backward"] = _backward_function(table)
    OPERATORS[table.name] = Operator(
        name=table.name,
        shape=lambda *shapes, **attributes: table.shape(shapes, attributes),
        forward=_forward(table),
        backward=_backward(table),
        random=table.random,
        mixes_samples=not table.per_sample,
        library=table,
    )
    REGISTERED.update(functions)
    return functions


def _split(
    table: _core.LibraryOperator, attributes: dict[str, Any]
) -> tuple[dict[str, Any], int, tuple[int, int, int]]:
    """The operator's own attributes, and what it draws from."""
    if not table.random:
        return attributes, 0, (0, 0, 0)
    own = {name: value for name, value in attributes.items() if name not in _RANDOM}
    random = attributes["step"], attributes["node"], attributes["first_sample"]
    return own, _seed(attributes["seed"]), random


def _forward(table: _core.LibraryOperator) -> Callable[..., tuple[Array, ...]]:
    def forward(k: Any, /, *arrays: Array | None, **attributes: Any) -> tuple[Array, ...]:
        own, seed, random = _split(table, attributes)
        results: tuple[Any, ...] = table.forward(arrays, own, seed, random)
        return results

    return forward


def _backward(table: _core.LibraryOperator) -> Callable[..., tuple[Array | None, ...]]:
    def backward(
        k: Any,
        dy: Array,
        inputs: Sequence[Array | None],
        outputs: tuple[Array, ...],
        needs: Sequence[bool],
        /,
        **attributes: Any,
    ) -> tuple[Array | None, ...]:
        own, seed, random = _split(table, attributes)
        gradients: list[Array | None] = [None] * len(inputs)
        if table.differentiable:
            y, saved = outputs
            gradients = list(table.backward(dy, inputs, y, saved, needs, own, seed, random))
        for place, (array, need) in enumerate(zip(inputs, needs, strict=True)):
            if need and array is not None and gradients[place] is None:
                gradients[place] = np.zeros_like(array)  # an input without a gradient
        return tuple(gradients)

    return backward


def _function(table: _core.LibraryOperator) -> Callable[..., Any]:
    """`pynn.ops.<name>`."""
    names = [name for name, *_ in table.inputs]
    symbolic = " or ".join(f"_isinstance({name}, _Variable)" for name in names)
    operands, attributes = f"({', '.join(names)},)", _attributes(table)
    random = ", _seed(seed), (step, node, first_sample)" if table.random else ""
    body = [
        f"if {symbolic}:",
        f"    return _record({table.name!r}, {operands}, _table.complete({attributes}))",
        f"return _table({operands}, {attributes}{random})",
    ]
    return _compiled(table, table.name, names, body, _doc(table))


def _backward_function(table: _core.LibraryOperator) -> Callable[..., Any]:
    """`pynn.ops.<name>_backward`."""
    run, run_backward = _forward(table), _backward(table)

    def gradients(dy: Any, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        needs = [array is not None for array in inputs]
        outputs = run(None, *inputs, **attributes)
        result = run_backward(None, dy, inputs, outputs, needs, **attributes)
        return result[0] if len(result) == 1 else result

    names = [name for name, *_ in table.inputs]
    given = _attributes(table, random=True)
    body = [f"return _gradients(dy, ({', '.join(names)},), {given})"]
    doc = (
        f"Gradient of `{table.name}` with respect to {', '.join(names)}, given dy, that of its "
        "result."
    )
    name = f"{table.name}_backward"
    return _compiled(table, name, ["dy", *names], body, doc, _gradients=gradients)


def _attributes(table: _core.LibraryOperator, *, random: bool = False) -> str:
    """The attributes as a dictionary in source code."""
    names = [name for name, *_ in table.attributes]
    names += list(_RANDOM) if random and table.random else []
    return "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"


def _seed(seed: int | None) -> int:
    return get_seed() if seed is None else seed


def _compiled(
    table: _core.LibraryOperator,
    name: str,
    operands: Sequence[str],
    body: Sequence[str],
    doc: str,
    **space: Any,
) -> Callable[..., Any]:
    """A function whose arguments are those of the operator, so that Python itself checks calls."""
    optional = {argument for argument, _, may_be_absent, *_ in table.inputs if may_be_absent}
    parts = [argument + ("=None" if argument in optional else "") for argument in operands]
    if table.attributes or table.random:
        parts.append("*")
    space |= {"_table": table, "_record": record, "_Variable": Variable, "_seed": _seed}
    space["_isinstance"] = isinstance  # an argument may have the name of a built-in function
    for argument, _, _, required, default in table.attributes:
        space[f"_default_{argument}"] = default
        parts.append(argument if required else f"{argument}=_default_{argument}")
    if table.random:
        parts += [f"{argument}={default}" for argument, default in _RANDOM.items()]
    lines = [f"def {name}({', '.join(parts)}):", *(f"    {line}" for line in body)]
    exec("\n".join(lines), space)
    function: Callable[..., Any] = space[name]
    function.__doc__, function.__module__ = doc, "pynn.ops"
    kinds = {argument: kind for argument, _, kind, *_ in table.attributes}
    function.__annotations__ = kinds | dict.fromkeys(operands, "Array")
    return function


def _doc(table: _core.LibraryOperator) -> str:
    """What `help` shows."""
    lines = [table.doc or f"The operator {table.name}.", "", "Args:"]
    for name, doc, optional, parameter, _ in table.inputs:
        kind = "a parameter, " if parameter else ""
        lines.append(
            f"    {name}: {kind}{doc or 'an array'}{', or None' if optional else ''}; "
            "float32 or float64, as all arrays of a call."
        )
    for name, doc, kind, required, default in table.attributes:
        value = "required" if required else f"{default!r} by default"
        lines.append(f"    {name}: {doc + '; ' if doc else ''}{kind}, {value}.")
    if table.random:
        lines.append("    seed, step, node, first_sample: as for `dropout`.")
    lines += ["", f"From {table.library}."]
    return "\n".join(lines)
