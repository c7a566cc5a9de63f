"""opcheck must say which promise an operator breaks, and where."""

import os
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import ops
from pynn.testing import opcheck

pytestmark = pytest.mark.usefixtures("compiler")

WRONG = Path(__file__).with_name("wrong.cpp")


@pytest.fixture(scope="module", autouse=True)
def wrong(compiler, cache):
    names = pynn.load_inline(WRONG.read_text(), flags=["-O0"])
    yield names
    for name in names:
        ops.unregister(name)


def test_a_right_one_passes():
    report = opcheck("right_square", reference=np.square)
    assert str(report).startswith("right_square: ")
    assert " checks passed, 0 failed" in str(report)
    # In each precision: what is read with three places of the guard, what is written with two.
    forward, backward = 3 * len(["x"]) + 2 * len(["y"]), 3 * len(["dy", "x", "y"]) + 2 * len(["dx"])
    assert report.passed["memory beside its arrays"] == 2 * (forward + backward)


MESSAGES = {
    "writes_behind": "rows, float32: forward reads or writes behind the end of y",
    "writes_before": "rows, float32: backward reads or writes before the beginning of dx",
    "reads_behind": "rows, float32: forward reads or writes behind the end of x",
    "writes_input": "rows, float32: forward writes to x, which it may only read",
    "leaves_one": "y is not wholly written, or depends on what its memory or the workspace held before: element [3, 2, 4] is nan",
    "adds_to_gradient": "dx is not wholly written, or depends on what its memory",
    "wrong_gradient": "dx[0, 1, 2] is -3.4518101, finite differences give -2.30120674",
    "throws": "rows, float32: throws: forward failed: out of luck",
    "throws_in_thread": "backward failed: it threw something that is not a std::exception",
    "gives_nan": "y[0, 0, 0] is nan for finite inputs",
    "shape_too_large": "y is not wholly written, or depends on what its memory or the workspace held before: element [3, 1, 0]",
    "shape_too_small": "forward reads or writes behind the end of y",
    "shape_negative": "the shape rule gave a negative size: (4, -3)",
    "shape_other_batch": "the shape rule gave (1, 2) for 4 samples, but it works sample by sample",
    "mixes_samples": "parts of the batch: y of samples 0 to 1 alone: element [0, 0, 0] is",
    "imprecise": "y in float32, against float64: element [0, 0, 0] is 0.215, expected 0.2153",
    "counts_threads": "numbers of threads: y in float32 on 5 threads: element [0, 0, 1] is",
    "counts_calls": "y differs from call to call: element [0, 0, 2] is",
    "aborts": "rows, float32: forward ended the process (SIGABRT)",
    "fails_without_samples": "empty batch: OperatorError: fails_without_samples: backward failed: there is nothing",
    "neighbours": "element by element: y of elements 3 and up, alone: element [0] is",
    "refuses_not": "one_axis, refusals: one_axis: not refused",
    "refuses_in_other_words": "the message lacks 'at least two axes': refuses_in_other_words: no",
    "small_workspace": "forward writes behind the end of workspace",
    "keeps_in_workspace": "dx is not wholly written, or depends on what its memory or the workspace held before: element [0, 0, 0] is nan",
}


def test_every_wrong_one_is_tried(wrong):
    assert {"right_square", *MESSAGES} == set(wrong)


@pytest.mark.skipif(os.name == "nt", reason="memory is not guarded on Windows")
@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_wrong_is_said(name):
    with pytest.raises(AssertionError) as caught:
        opcheck(name)
    assert MESSAGES[name] in str(caught.value)


def test_threads_are_as_before():
    kept = pynn.get_num_threads()
    pynn.set_num_threads(3)
    try:
        opcheck("counts_threads", raise_error=False)
        assert pynn.get_num_threads() == 3
    finally:
        pynn.set_num_threads(kept)


def test_a_reference_that_disagrees():
    with pytest.raises(AssertionError, match=r"y in float32, against the reference: element \[0"):
        opcheck("right_square", reference=lambda x: 2 * x)


def test_samples_of_ones_own():
    report = opcheck("right_square", samples={"large": (((70, 100),), {})})
    assert report.passed["whole results"] == 2
    with pytest.raises(AssertionError, match="large, parts of the batch"):
        opcheck("mixes_samples", samples={"large": (((70, 100),), {})})


def test_built_in_operators_pass():
    assert opcheck("conv2d").failed == ()
    with pytest.raises(ValueError, match="has no operator 'magic'"):
        opcheck("magic")


def test_python_operators():
    ops.register(
        "cubed", lambda x: x**3, lambda dy, x: 3 * x**2 * dy, samples={"rows": (((3, 4),), {})}
    )
    ops.register("badly_cubed", lambda x: x**3, lambda dy, x: x**2 * dy)
    try:
        assert opcheck("cubed", reference=lambda x: x**3).failed == ()
        with pytest.raises(ValueError, match="'badly_cubed' declares no samples"):
            opcheck("badly_cubed")
        with pytest.raises(AssertionError, match=r"argument 0.* finite differences give"):
            opcheck("badly_cubed", samples={"rows": (((3, 4),), {})})
    finally:
        ops.unregister("cubed")
        ops.unregister("badly_cubed")
