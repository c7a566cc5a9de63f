"""Native kernels beside their NumPy reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from pynn.backends import backend
from pynn.graph import OPERATORS
from pynn.testing.declared import declared_benchmarks
from pynn.testing.op_table import bench_cases
from pynn.testing.samples import Case
from pynn.testing.selftest import compare_back_ends


def _median_seconds(function: Callable[[], Any], budget: float) -> float:
    """The median time of a call, over at least three calls and about `budget` seconds, after one
    that warms up."""
    function()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < budget and len(times) < 1000):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _row(case: Case, budget: float) -> dict[str, Any]:
    built_in = OPERATORS[case.operator].library is None
    if built_in:
        compare_back_ends(case, "float32")
    arrays = case.arrays("float32")
    seconds = {}
    for name in ("native", "numpy") if built_in else ("native",):
        with backend(name):
            seconds[name] = _median_seconds(lambda: case.apply(arrays), budget)
    return {
        "operator": case.operator,
        "case": case.name,
        "shapes": [list(shape) for shape in case.shapes if shape is not None],
        "native_ms": seconds["native"] * 1e3,
        "numpy_ms": seconds["numpy"] * 1e3 if built_in else None,
        "gflops": case.flops / seconds["native"] / 1e9,
        "ratio": seconds["numpy"] / seconds["native"] if built_in else None,
    }


def bench(operators: Iterable[str] = (), *, budget: float = 0.2) -> list[dict[str, Any]]:
    """Time the forward pass of operators in float32, native and NumPy in turn; each answer is
    checked first.

    Args:
        operators: names; none means all that have cases for it, those of loaded libraries included.
        budget: seconds for each measurement.

    Returns:
        One dictionary for each case: operator, case, shapes, native_ms and numpy_ms (medians),
        gflops (of native), and ratio (NumPy's time over native's); None where NumPy has no such
        operator: what a library brings is checked by `pynn.testing.opcheck` instead.

    Raises:
        ValueError: an operator has no such cases.
        AssertionError: native and reference disagree.
    """
    cases = bench_cases() + declared_benchmarks()
    known = {case.operator for case in cases}
    wanted = set(operators) or known
    if wanted - known:
        raise ValueError(
            f"no benchmark of {', '.join(sorted(wanted - known))}; "
            f"choose from {', '.join(sorted(known))}"
        )
    return [_row(case, budget) for case in cases if case.operator in wanted]
