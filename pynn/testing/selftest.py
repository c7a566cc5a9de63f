"""Is this installation sound? Every operator's samples, native against the reference, in
seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from pynn import _core
from pynn.testing.op_table import all_cases, all_refusals
from pynn.testing.samples import Case, tolerance


def compare_back_ends(case: Case, dtype: str) -> None:
    """Hold the native result and gradients of one case against the float64 reference.

    Raises:
        AssertionError: they differ by more than rounding; the message shows where.
    """
    expected = np.asarray(case.call("numpy", "float64"))
    actual = np.asarray(case.call("native", dtype))
    if not case.loss:
        assert actual.dtype == dtype, f"{case}: the result is {actual.dtype}, expected {dtype}"
    np.testing.assert_allclose(
        actual, expected, **tolerance(case, expected, dtype), err_msg=f"{case} y"
    )
    gradients = zip(
        case.differentiable,
        case.gradients("native", dtype),
        case.gradients("numpy", "float64"),
        strict=True,
    )
    for index, gradient, reference in gradients:
        assert gradient.dtype == dtype, (
            f"{case}: gradient {index} is {gradient.dtype}, expected {dtype}"
        )
        np.testing.assert_allclose(
            gradient,
            reference,
            **tolerance(case, reference, dtype),
            err_msg=f"{case} gradient of argument {index}",
        )


def selftest() -> dict[str, Any]:
    """Check every case in both dtypes, on one thread and on three, and every refusal.

    Returns:
        {"passed": number of checks, "failed": messages of those that failed}.
    """
    threads = _core.get_num_threads()
    failed: list[str] = []
    passed = 0
    try:
        for count in (1, 3):
            _core.set_num_threads(count)
            for case in all_cases():
                for dtype in ("float32", "float64"):
                    try:
                        compare_back_ends(case, dtype)
                        passed += 1
                    except Exception as error:
                        failed.append(f"{case} {dtype} on {count} threads: {error}")
    finally:
        _core.set_num_threads(threads)
    for refusal in all_refusals():
        try:
            refusal.call("native")
            failed.append(f"{refusal.operator} {refusal.name}: was not refused")
        except refusal.error:
            passed += 1
        except Exception as error:
            failed.append(
                f"{refusal.operator} {refusal.name}: raised {type(error).__name__}: {error}"
            )
    return {"passed": passed, "failed": failed}
