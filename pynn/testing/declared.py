"""The samples that an operator of a library declares, as cases of the op table."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from pynn import _core
from pynn.errors import LibraryError, PynnError
from pynn.graph import OPERATORS
from pynn.testing.samples import Case, Entry, Refusal, Shapes, normal


def declared_entry(table: _core.LibraryOperator) -> Entry:
    """What a library says of its operator's samples.

    Raises:
        LibraryError: a sample's shapes or attributes cannot be read.
    """
    cases: list[Case] = []
    refusals: list[Refusal] = []
    bench: list[Case] = []
    for kind, name, shape_text, attribute_text, message in table.samples:
        where = f"{table.library}: sample {name!r} of {table.name}"
        shapes = _shapes(where, shape_text, len(table.inputs))
        attributes = _attributes(where, attribute_text)
        if kind == "refusal":
            refusals.append(_refusal(table.name, name, shapes, attributes, message))
        else:
            (cases if kind == "case" else bench).append(make_case(table, name, shapes, attributes))
    return Entry(tuple(cases), tuple(refusals), tuple(bench))


def declared_benchmarks() -> list[Case]:
    """The benchmarks of all operators of libraries that are loaded."""
    tables = [operator.library for operator in OPERATORS.values() if operator.library is not None]
    return [case for table in tables for case in declared_entry(table).bench]


def make_case(
    table: _core.LibraryOperator, name: str, shapes: Shapes, attributes: dict[str, Any]
) -> Case:
    """A case of an operator of a library."""
    differentiable = [
        place
        for place, (_, _, _, _, gradient) in enumerate(table.inputs)
        if gradient and shapes[place] is not None
    ]
    sizes = [int(np.prod(shape)) for shape in shapes if shape is not None]
    try:
        flops = table.flops(shapes, attributes)
    except (PynnError, ValueError, TypeError):
        flops = None  # the case itself will say why it fails
    return Case(
        table.name, name, tuple(shapes), attributes, normal, tuple(differentiable),
        terms=max(sizes), flops=max(sizes) if flops is None else flops,
    )  # fmt: skip


def _refusal(
    operator: str, name: str, shapes: Shapes, attributes: dict[str, Any], message: str
) -> Refusal:
    return Refusal(
        operator, name, lambda: normal(np.random.default_rng(0), shapes), attributes, Exception,
        message,
    )  # fmt: skip


def _shapes(where: str, text: str, count: int) -> tuple[tuple[int, ...] | None, ...]:
    try:
        shapes: tuple[Any, ...] = ast.literal_eval(f"({text},)")
    except (SyntaxError, ValueError):
        shapes = ("",)
    good = all(
        shape is None
        or (isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape))
        for shape in shapes
    )
    if not good:
        raise LibraryError(
            f"{where}: {text!r} is not a list of shapes such as '(3, 4), (4,), None'"
        )
    if len(shapes) > count:
        raise LibraryError(f"{where}: {len(shapes)} shapes for {count} arrays")
    return shapes + (None,) * (count - len(shapes))


def _attributes(where: str, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError(text)
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise LibraryError(
            f"{where}: {text!r} are no attributes such as 'beta=2.0, padding=(1, 2)'"
        ) from None
