"""Everything that pynn promises of an operator, checked for one of yours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pynn import _core, executors
from pynn.errors import DTypeError
from pynn.executors import node_by_node
from pynn.executors.plan import plan_for
from pynn.extension.library import path_of
from pynn.graph import OPERATORS, Array
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter
from pynn.ops.python import SAMPLES
from pynn.testing.declared import declared_entry, make_case
from pynn.testing.op_table import entry_of
from pynn.testing.samples import Case, Entry, Refusal, normal, tolerance

_DTYPES = ("float32", "float64")
_THREADS = (2, 3, 5, 8)
_PLAN_BATCH = 37  # more than two blocks of 16, the last of them not full
_SECONDS = 300  # for the calls on guarded memory


@dataclass(frozen=True)
class OpReport:
    """What `opcheck` found.

    Attributes:
        operator: its name.
        passed: how many checks passed, by what they check.
        failed: what failed, each with its case and the first wrong element.
        skipped: what could not be checked here, and why.
    """

    operator: str
    passed: dict[str, int]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        count = sum(self.passed.values())
        lines = [f"{self.operator}: {count} checks passed, {len(self.failed)} failed"]
        lines += [f"  {what}: {number}" for what, number in self.passed.items()]
        lines += [f"  not checked: {text}" for text in self.skipped]
        lines += [f"  FAILED {text}" for text in self.failed]
        return "\n".join(lines)


def opcheck(
    name: str,
    *,
    samples: Mapping[str, tuple[Any, dict[str, Any]]] | None = None,
    reference: Callable[..., Array] | None = None,
    raise_error: bool = True,
) -> OpReport:
    """Check an operator on its samples: a library's, a Python one of yours, or a built-in one.

    Gradients are compared with finite differences and float32 with float64; strided, read-only,
    misaligned and empty inputs, 1 to 8 threads, parts of the batch and plans must give the same
    bits; mistakes must be refused. The memory of a library's operator is checked in a process of
    its own, where every array in turn lies beside forbidden pages.

    Args:
        name: of the operator in `pynn.ops`.
        samples: by name, (shapes of its arrays, attributes): instead of those that are declared;
            None for an array stands for an absent one.
        reference: NumPy code that computes the same: `reference(*arrays, **attributes)`.
        raise_error: raise AssertionError where a check fails.

    Returns:
        An OpReport; printed, it says what was checked, and what failed with the first wrong
        element.

    Raises:
        ValueError: there is no such operator, or it has no samples.
        AssertionError: a check failed; the message is the report.
    """
    if name not in OPERATORS:
        raise ValueError(f"pynn.ops has no operator {name!r}")
    entry = _entry(name, samples)
    if not entry.cases:
        raise ValueError(f"operator {name!r} declares no samples; pass some as samples=")
    check = _Check(name, entry, reference)
    check.run()
    report = OpReport(name, check.passed, tuple(check.failed), tuple(check.skipped))
    if raise_error and report.failed:
        raise AssertionError(str(report))
    return report


def _entry(name: str, samples: Mapping[str, tuple[Any, dict[str, Any]]] | None) -> Entry:
    operator = OPERATORS[name]
    table: _core.LibraryOperator | None = operator.library
    if table is not None:
        if samples is None:
            return declared_entry(table)
        return Entry(tuple(make_case(table, n, *sample) for n, sample in samples.items()), ())
    built_in = entry_of(name)
    if samples is None and built_in is not None:
        return built_in
    if samples is None:
        samples = SAMPLES.get(name, {})
    return Entry(tuple(_python_case(name, n, *sample) for n, sample in samples.items()), ())


def _python_case(operator: str, name: str, shapes: Any, attributes: dict[str, Any]) -> Case:
    present = tuple(place for place, shape in enumerate(shapes) if shape is not None)
    terms = max((int(np.prod(shapes[place])) for place in present), default=1)
    return Case(operator, name, tuple(shapes), attributes, normal, present, terms, terms)


class _FailedError(Exception):
    """A check that failed, with what it found."""


class _Check:
    def __init__(self, name: str, entry: Entry, reference: Callable[..., Array] | None) -> None:
        self.name, self.entry, self.reference = name, entry, reference
        self.table: _core.LibraryOperator | None = OPERATORS[name].library
        self.passed: dict[str, int] = {}
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def run(self) -> None:
        """All checks; those in this process only where the operator leaves its memory whole."""
        if self.table is not None and not self._memory(self.table):
            return
        threads = _core.get_num_threads()
        try:
            for case in self.entry.cases:
                self._case(case)
            for refusal in self.entry.refusals:
                self._try("refusals", refusal.name, partial(_refuses, refusal))
            self._try("refusals", "other inputs", self._refuses_others)
        finally:
            _core.set_num_threads(threads)

    def _try(self, what: str, where: str, check: Callable[[], None]) -> bool:
        _core.set_num_threads(1)
        try:
            check()
        except _FailedError as failure:
            self.failed.append(f"{where}, {what}: {failure}")
        except Exception as error:
            self.failed.append(f"{where}, {what}: {type(error).__name__}: {error}")
        else:
            self.passed[what] = self.passed.get(what, 0) + 1
            return True
        return False

    # Memory

    def _memory(self, table: _core.LibraryOperator) -> bool:
        path = path_of(table)
        if os.name == "nt" or path is None:
            reason = "Windows" if os.name == "nt" else "the library has no file"
            self.skipped.append(f"memory beside its arrays ({reason})")
            return True
        command = [sys.executable, "-m", "pynn.testing.guarded", str(path), table.name]
        environment = {**os.environ, "PYNN_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False,
                timeout=_SECONDS, env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.failed.append(f"memory: its calls take more than {_SECONDS} s")
            return False
        running: list[str] = []
        failed = []
        for line in done.stdout.splitlines():
            said = json.loads(line)
            if "running" in said:
                running = said["running"]
            elif "failed" in said:
                failed.append(said["failed"])
            elif not failed:
                self.passed["memory beside its arrays"] = said["done"]
        self.failed += list(dict.fromkeys(failed))
        if done.returncode != 0:
            self.failed.append(_how_it_ended(done, running))
        return done.returncode == 0 and not failed

    # Cases

    def _case(self, case: Case) -> None:
        table = self.table
        whole = [
            self._try("whole results", f"{case.name}, {dtype}", partial(self._whole, case, dtype))
            for dtype in _DTYPES
        ]
        if not all(whole):
            return  # nothing else can be right
        checks: list[tuple[str, Callable[[Case], None]]] = [
            ("gradients against finite differences", _finite_differences),
            ("float32 against float64", _precisions),
            ("layouts of inputs", _layouts_agree),
            ("numbers of threads", _threads_agree),
        ]
        if self.reference is not None:
            checks.append(("reference", self._against_reference))
        if table is not None:
            if table.per_sample:
                checks.append(("parts of the batch", partial(_parts_agree, table)))
            if table.pointwise:
                checks.append(("element by element", partial(_elements_agree, table)))
            checks.append(("empty batch", partial(_empty, table)))
            checks.append(("plans", partial(_plan_agrees, table)))
        for what, check in checks:
            self._try(what, case.name, partial(check, case))

    def _whole(self, case: Case, dtype: str) -> None:
        """All elements written, of the right dtype, finite, the same each time; inputs as they
        were."""
        arrays = case.arrays(dtype)
        if self.table is not None:
            for name, (one, again, other) in _poisoned(self.table, case, arrays).items():
                _equal_bits(f"{name} differs from call to call:", again, one)
                _equal_bits(
                    f"{name} is not wholly written, or depends on what its memory or the "
                    "workspace held before:", one, other,
                )  # fmt: skip
        copies = [None if array is None else np.array(array) for array in arrays]
        first, second = [_results(case, arrays) for _ in range(2)]
        for name, copy, array in zip(_names(case, self.table), copies, arrays, strict=True):
            if copy is not None:
                _equal_bits(f"{name} was changed:", np.asarray(array), copy)
        for (name, got), (_, again) in zip(first, second, strict=True):
            if got.dtype != dtype and not (case.loss and name == "y"):
                raise _FailedError(f"{name} is {got.dtype}, expected {dtype}")
            wrong = np.argwhere(~np.isfinite(got))
            if len(wrong):
                place = tuple(wrong[0].tolist())
                raise _FailedError(f"{name}{_index(place)} is {got[place]} for finite inputs")
            _equal_bits(f"{name} differs from call to call:", got, again)

    def _against_reference(self, case: Case) -> None:
        assert self.reference is not None
        expected = np.asarray(self.reference(*case.arrays("float64"), **case.attributes))
        for dtype in _DTYPES:
            got = case.call(dtype=dtype)
            _close(f"y in {dtype}, against the reference:", got, expected, case, dtype)

    def _refuses_others(self) -> None:
        """Inputs and attributes that no operator takes."""
        if OPERATORS[self.name].python:
            return  # its own affair
        case = self.entry.cases[0]
        arrays = case.arrays("float32")
        for name, dtype in (("integers", "int64"), ("half precision", "float16")):
            wrong = [np.zeros(np.shape(arrays[0]), dtype), *arrays[1:]]
            _raises(name, DTypeError, partial(case.apply, wrong))
        if self.table is None:
            return
        if len(arrays) > 1 and arrays[1] is not None:
            mixed = [arrays[0], arrays[1].astype("float64"), *arrays[2:]]
            _raises("mixed dtypes", DTypeError, partial(case.apply, mixed))
        for name, *_ in self.table.attributes:
            given = replace(case, attributes=case.attributes | {name: object()})
            _raises(f"{name}=object()", TypeError, partial(given.apply, arrays))
        given = replace(case, attributes=case.attributes | {"no_such_attribute": 1})
        _raises("an unknown attribute", TypeError, partial(given.apply, arrays))


def _refuses(refusal: Refusal) -> None:
    _raises(refusal.name, refusal.error, partial(refusal.call, "native"), refusal.message)


def _raises(what: str, kind: type[Exception], call: Callable[[], object], words: str = "") -> None:
    try:
        call()
    except kind as error:
        if words not in str(error):
            raise _FailedError(f"{what}: the message lacks {words!r}: {error}") from None
    else:
        raise _FailedError(f"{what}: not refused")


def _how_it_ended(done: subprocess.CompletedProcess[str], running: list[str]) -> str:
    if not running:
        return f"memory: the operator could not be run by itself:\n{done.stderr.strip()}"
    where, which, array, place = running
    if done.returncode != -signal.SIGSEGV and done.returncode != -getattr(signal, "SIGBUS", 0):
        number = -done.returncode
        name = signal.Signals(number).name if number > 0 else f"exit status {done.returncode}"
        last = done.stderr.strip().splitlines()[-1:]
        return f"{where}: {which} ended the process ({name}){': ' + last[0] if last else ''}"
    deed = {
        "behind": f"reads or writes behind the end of {array}",
        "before": f"reads or writes before the beginning of {array}",
        "in": f"writes to {array}, which it may only read",
    }[place]
    return f"{where}: {which} {deed}"


# Results


def _names(case: Case, table: _core.LibraryOperator | None) -> list[str]:
    if table is not None:
        return [name for name, *_ in table.inputs]
    return [f"argument {place}" for place in range(len(case.shapes))]


def _results(case: Case, arrays: Sequence[Any]) -> list[tuple[str, Array]]:
    """Y and the gradients, by name."""
    if case.loss:
        value, gradient = case.apply(arrays, return_grad=True)
        return [("y", np.asarray(value)), ("gradient", gradient)]
    names = _names(case, OPERATORS[case.operator].library)
    model, inputs = case._model(list(arrays))
    y = np.asarray(case.apply(arrays))
    graph, tape = model._run_forward([np.asarray(array) for array in inputs])
    _equal_bits("y on arrays and in a graph differ:", y, tape.output)
    dy = case._weights(tape.output.shape).astype(tape.output.dtype)
    gradients = executors.backward(graph, tape, dy).inputs
    return [("y", y)] + [
        (f"d{names[place]}", gradient)
        for place, gradient in zip(case.differentiable, gradients, strict=True)
        if gradient is not None
    ]


def _poisoned(
    table: _core.LibraryOperator, case: Case, arrays: Sequence[Any]
) -> dict[str, tuple[Array, ...]]:
    """The results on memory that held one pattern, the same again, and on memory that held
    another."""
    runs: list[dict[str, Array]] = []
    for pattern in (0xFF, 0xFF, 0x3E):  # NaN, and a small number, in both dtypes
        shapes = [None if array is None else array.shape for array in arrays]
        dtype = arrays[0].dtype
        sizes = table.memory(shapes, dtype == np.float64, case.attributes)

        def filled(nbytes: int, pattern: int = pattern) -> Array:
            whole = np.full(nbytes + 64, pattern, np.uint8)
            return whole[-whole.ctypes.data % 64 :][:nbytes]

        def like(shape: Any, dtype: Any = dtype, filled: Any = filled) -> Array:
            count = int(np.prod(shape)) * dtype.itemsize
            return np.asarray(filled(count).view(dtype).reshape(shape))

        y = like(table.shape(shapes, case.attributes))
        saved, forward, backward = (filled(size) if size else None for size in sizes)
        table.forward_into(arrays, y, saved, forward, case.attributes)
        results = {"y": y}
        if table.differentiable:
            dy = case._weights(y.shape).astype(dtype)
            gradients = [
                like(array.shape) if array is not None and has else None
                for (*_, has), array in zip(table.inputs, arrays, strict=True)
            ]
            table.backward_into(dy, arrays, y, saved, backward, gradients, case.attributes)
            results |= {
                f"d{name}": gradient
                for (name, *_), gradient in zip(table.inputs, gradients, strict=True)
                if gradient is not None
            }
        runs.append(results)
    return {name: tuple(results[name] for results in runs) for name in runs[0]}


# Comparisons


def _index(place: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, place))}]" if place else ""


def _first(wrong: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def _equal_bits(what: str, got: Array, expected: Array) -> None:
    if got.shape != expected.shape:
        raise _FailedError(f"{what} shape {got.shape}, expected {expected.shape}")
    if got.dtype != expected.dtype:
        raise _FailedError(f"{what} dtype {got.dtype}, expected {expected.dtype}")
    size = got.dtype.itemsize
    a = np.ascontiguousarray(got).view(np.uint8).reshape(*got.shape, size) if got.ndim else got
    b = np.ascontiguousarray(expected).view(np.uint8).reshape(a.shape) if got.ndim else expected
    wrong = (a != b).any(axis=-1) if got.ndim else np.asarray(a != b)
    if wrong.any():
        place = _first(wrong)
        raise _FailedError(
            f"{what} element {_index(place) or '()'} is {got[place]!s}, expected "
            f"{expected[place]!s} ({int(wrong.sum())} of {wrong.size} differ)"
        )


def _close(what: str, got: Array, expected: Array, case: Case, dtype: str) -> None:
    if np.shape(got) != np.shape(expected):
        raise _FailedError(f"{what} shape {np.shape(got)}, expected {np.shape(expected)}")
    bounds = tolerance(case, expected, dtype)
    wrong = np.asarray(~np.isclose(got, expected, **bounds, equal_nan=True))
    if wrong.any():
        place = _first(wrong)
        raise _FailedError(
            f"{what} element {_index(place) or '()'} is {np.asarray(got)[place]!s}, expected "
            f"{np.asarray(expected)[place]!s} ({int(wrong.sum())} of {wrong.size} differ)"
        )


# Checks


def _finite_differences(case: Case) -> None:
    for comparison in case.finite_differences():
        names = _names(case, OPERATORS[case.operator].library)
        name = names[int(comparison.name.split()[-1])]
        if not comparison.error < 1e-6:
            raise _FailedError(
                f"d{name}{_index(comparison.index)} is {comparison.computed:.9g}, finite "
                f"differences give {comparison.expected:.9g}"
            )


def _precisions(case: Case) -> None:
    single = _results(case, case.arrays("float32"))
    double = _results(case, case.arrays("float64"))
    for (name, got), (_, expected) in zip(single, double, strict=True):
        _close(f"{name} in float32, against float64:", got, expected, case, "float32")


def _layouts(array: Array) -> Iterator[tuple[str, Array]]:
    """The same values behind unusual memory."""
    if array.ndim:
        yield "reversed", np.ascontiguousarray(array[::-1])[::-1]
        yield "Fortran order", np.asfortranarray(array)
        doubled = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)
        doubled[..., ::2] = array
        yield "strided", doubled[..., ::2]
    raw = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array
    yield "misaligned", misaligned
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen


def _layouts_agree(case: Case) -> None:
    arrays = case.arrays("float32")
    names = _names(case, OPERATORS[case.operator].library)
    expected = np.asarray(case.apply(arrays))
    for place, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            continue
        for layout, same in _layouts(array):
            changed = [*arrays]
            changed[place] = same
            got = np.asarray(case.apply(changed))
            _equal_bits(f"y for {layout} {names[place]}:", got, expected)


def _threads_agree(case: Case) -> None:
    for dtype in _DTYPES:
        arrays = case.arrays(dtype)
        _core.set_num_threads(1)
        expected = _results(case, arrays)
        for threads in _THREADS:
            _core.set_num_threads(threads)
            for (name, got), (_, one) in zip(_results(case, arrays), expected, strict=True):
                _equal_bits(f"{name} in {dtype} on {threads} threads:", got, one)


def _batch(table: _core.LibraryOperator, arrays: Sequence[Any], rows: Any) -> list[Any]:
    """The arrays with these samples of the batch."""
    return [
        array if array is None or parameter else np.ascontiguousarray(array[rows])
        for (_, _, _, parameter, _), array in zip(table.inputs, arrays, strict=True)
    ]


def _parts_agree(table: _core.LibraryOperator, case: Case) -> None:
    arrays = case.arrays("float32")
    whole = case.apply(arrays)
    samples = len(arrays[0]) if arrays[0].ndim else 0
    for begin, end in ((0, samples // 2), (samples // 2, samples)):
        if begin == end:
            continue
        part = _batch(table, arrays, slice(begin, end))
        place = {"first_sample": begin} if table.random else {}
        got = case.apply(part, **place)
        _equal_bits(f"y of samples {begin} to {end - 1} alone:", got, whole[begin:end])


def _elements_agree(table: _core.LibraryOperator, case: Case) -> None:
    arrays = case.arrays("float32")
    whole = case.apply(arrays).reshape(-1)
    flat = [array.reshape(-1) for array in arrays]
    for begin in range(0, min(whole.size, 40), 3):
        part = [array[begin : begin + 3].reshape(1, -1).copy() for array in flat]
        got = case.apply(part).reshape(-1)
        _equal_bits(f"y of elements {begin} and up, alone:", got, whole[begin : begin + 3])


def _empty(table: _core.LibraryOperator, case: Case) -> None:
    arrays = case.arrays("float32")
    if arrays[0].ndim == 0:
        return
    nothing = replace(case, name=f"{case.name}, no samples")
    empty = _batch(table, arrays, slice(0, 0))
    for name, result in _results(nothing, empty):
        if not np.isfinite(result).all() or (name != "y" and result.any()):
            place = _first(~np.isfinite(result) | (result != 0))
            raise _FailedError(
                f"{name}{_index(place)} is {result[place]!s} for a batch of 0, expected 0"
            )


class _Twice(Module):
    """The sum of an operator's result with itself, computed twice, so that gradients are added;
    parameters of the operator are the model's."""

    def __init__(self, case: Case, table: _core.LibraryOperator, arrays: Sequence[Any]) -> None:
        self.case = case
        self.names = [name for name, *_ in table.inputs]
        self.given = [
            "absent" if array is None else "parameter" if parameter else "input"
            for (_, _, _, parameter, _), array in zip(table.inputs, arrays, strict=True)
        ]
        self.dtype_holder = Parameter(np.zeros(1, arrays[0].dtype))
        for name, kind, array in zip(self.names, self.given, arrays, strict=True):
            if kind == "parameter":
                setattr(self, f"own_{name}", Parameter(array))

    def forward(self, *inputs: Any) -> Any:
        rest = iter(inputs)
        operands = [
            next(rest) if kind == "input" else getattr(self, f"own_{name}", None)
            for name, kind in zip(self.names, self.given, strict=True)
        ]
        return self.case.apply(operands) + self.case.apply(operands)


def _plan_agrees(table: _core.LibraryOperator, case: Case) -> None:
    arrays = case.arrays("float32")
    sizes = [size for array in arrays if array is not None for size in array.shape]
    if arrays[0].ndim == 0 or 0 in sizes:
        return
    tiled = _batch(table, arrays, np.arange(_PLAN_BATCH) % len(arrays[0]))
    model = _Twice(case, table, tiled)
    inputs = [array for array, kind in zip(tiled, model.given, strict=True) if kind == "input"]
    graph = model.trace(*(array.shape for array in inputs)).graph
    needed = graph.gradient_paths(lambda variable: True, True)
    stream = executors.Stream(seed=0, step=0)

    def results(tape: executors.Tape) -> list[tuple[str, Array]]:
        dy = case._weights(tape.output.shape).astype(tape.output.dtype)
        gradients = executors.backward(graph, tape, dy)
        inputs_ = [(f"gradient {i}", g) for i, g in enumerate(gradients.inputs) if g is not None]
        stored = {id(variable): number for number, variable in graph.variables.items()}
        ordered = sorted(gradients.variables, key=lambda pair: stored[id(pair[0])])
        return [("y", tape.output), *inputs_, *((f"gradient of {v.shape}", g) for v, g in ordered)]

    expected = results(node_by_node.forward(graph, inputs, stream, needed))
    for threads in (1, 3):
        _core.set_num_threads(threads)
        plan = plan_for(graph, needed)
        if plan is None:
            return  # y has no batch axis
        if plan.core.foreign:
            raise _FailedError("the plan does not run it")
        for (name, got), (_, want) in zip(
            results(plan.forward(inputs, stream)), expected, strict=True
        ):
            _equal_bits(f"{name} in a plan (threads: {threads}), against arrays:", got, want)
