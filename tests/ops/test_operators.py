"""Every operator, from its one entry in the op table."""

import os
import subprocess
import sys

import numpy as np
import pytest

import pynn
from pynn import _core, ops, reference
from pynn.backends import backend
from pynn.graph import OPERATORS
from pynn.nn.parameter import Parameter
from pynn.testing.gradcheck import _Function
from pynn.testing.op_table import all_cases, all_refusals
from pynn.testing.samples import TABLE, tolerance
from pynn.testing.selftest import compare_back_ends

CASES = all_cases()
REFUSALS = all_refusals()


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


def test_every_operator_has_samples_and_refusals():
    built_in = {
        name
        for name, operator in OPERATORS.items()
        if not operator.python and operator.library is None
    }
    assert built_in == set(TABLE)
    assert [name for name, entry in TABLE.items() if not entry.cases or not entry.refusals] == []


def test_kernels_of_both_back_ends_have_the_same_names():
    native = {name for name in dir(_core) if not name.startswith("_")}
    machine = {
        "config", "fma_loop", "get_num_threads", "set_num_threads", "get_winograd", "set_winograd",
        "Plan", "Pass", "host", "abi_version", "read_library", "LibraryOperator",
    }  # fmt: skip
    rules = {name for name in native if name.endswith(("_shape", "_geometry"))}
    assert set(reference.__all__) == native - machine - rules


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_native_equals_reference(case, dtype):
    compare_back_ends(case, dtype)


def test_gradients_equal_finite_differences(case):
    for comparison in case.finite_differences():
        assert comparison.error < 1e-6, comparison


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_the_number_of_threads(case, dtype):
    def bits():
        return [np.asarray(case.call(dtype=dtype)), *case.gradients(dtype=dtype)]

    kept = pynn.get_num_threads()
    try:
        pynn.set_num_threads(1)
        expected = bits()
        for threads in (2, 3, 5, 8):
            pynn.set_num_threads(threads)
            for got, want in zip(bits(), expected, strict=True):
                assert got.tobytes() == want.tobytes()
    finally:
        pynn.set_num_threads(kept)


def _layouts(array):
    """The same values behind unusual memory: reversed, Fortran order, misaligned, read-only."""
    yield "reversed", np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array
    yield "fortran", np.asfortranarray(array)
    every_second = (
        np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype) if array.ndim else array
    )
    if array.ndim:
        every_second[..., ::2] = array
        yield "strided", every_second[..., ::2]
    raw = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array
    yield "misaligned", misaligned
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read_only", frozen


@pytest.mark.parametrize("backend_name", ["native", "numpy"])
def test_layout_of_the_inputs_does_not_matter(case, backend_name):
    arrays = case.arrays("float32")
    with backend(backend_name):
        expected = np.asarray(case.apply(arrays))
        for index, array in enumerate(arrays):
            if not isinstance(array, np.ndarray):
                continue
            for layout, same in _layouts(array):
                np.testing.assert_array_equal(same, array)
                changed = [*arrays]
                changed[index] = same
                got = np.asarray(case.apply(changed))
                where = f"argument {index}, {layout}"
                if backend_name == "native":
                    assert got.tobytes() == expected.tobytes(), where
                else:  # NumPy's matrix product rounds by layout
                    bounds = tolerance(case, expected, "float32")
                    np.testing.assert_allclose(got, expected, **bounds, err_msg=where)


def test_inputs_are_not_changed_and_results_are_fresh(case):
    arrays = case.arrays("float32")
    copies = [None if array is None else array.copy() for array in arrays]
    result = case.apply(arrays)
    for array, copy in zip(arrays, copies, strict=True):
        if array is not None:
            np.testing.assert_array_equal(array, copy)
            if isinstance(result, np.ndarray):
                assert not np.may_share_memory(result, array)


@pytest.mark.parametrize("backend_name", ["native", "numpy"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: f"{r.operator}-{r.name}")
def test_refusals_say_what_is_wrong(refusal, backend_name):
    with pytest.raises(refusal.error) as caught:
        refusal.call(backend_name)
    assert refusal.message in str(caught.value)


def test_recording_gives_the_shape_that_running_gives(case):
    if case.loss:
        return  # losses are not recorded
    arrays = case.arrays()
    expected = np.asarray(case.apply(arrays)).shape
    model, inputs = case._model(arrays)
    graph = model.trace(*(array.shape for array in inputs)).graph
    assert graph.shapes[graph.output] == expected


ISA_SCRIPT = """
import sys, numpy as np, pynn
from pynn.testing.op_table import all_cases

pynn.manual_seed(0)
arrays = {}
for case in all_cases():
    for dtype in ("float32", "float64"):
        arrays[f"{case}/{dtype}/y"] = np.asarray(case.call(dtype=dtype))
        for i, g in enumerate(case.gradients(dtype=dtype)):
            arrays[f"{case}/{dtype}/{i}"] = g
np.savez(sys.argv[1], **arrays)
"""


def test_all_instruction_sets_agree(tmp_path):
    results = {}
    for isa in _core.config()["available_isas"]:
        path = tmp_path / f"{isa}.npz"
        environment = {**os.environ, "PYNN_ISA": isa}
        subprocess.run([sys.executable, "-c", ISA_SCRIPT, path], env=environment, check=True)
        with np.load(path) as file:
            results[isa] = dict(file)
    cases = {str(case): case for case in CASES}
    baseline = results.pop("baseline")
    for isa, arrays in results.items():
        assert arrays.keys() == baseline.keys()
        for name, array in arrays.items():
            case, dtype, _ = name.split("/")
            expected = baseline[name]
            np.testing.assert_allclose(
                array, expected, **tolerance(cases[case], expected, dtype), err_msg=f"{isa} {name}"
            )


def test_an_unknown_instruction_set_is_refused():
    environment = {**os.environ, "PYNN_ISA": "sse9"}
    done = subprocess.run(
        [sys.executable, "-c", "import pynn, numpy; pynn.ops.relu(numpy.ones(1))"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "PYNN_ISA=sse9 is not available here" in done.stderr


SPECIAL = np.array(
    [[np.nan, 1, 2], [np.inf, 0, 1], [-np.inf, 0, 1], [1e30, -1e30, 0], [88, 89, 710]]
)


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "tanh", "sigmoid", "softmax", "log_softmax"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_and_nan_come_out_alike(name, dtype):
    x = SPECIAL.astype(dtype)
    function = getattr(ops, name)
    with backend("numpy"):
        expected = function(x)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(function(x), expected, rtol=8 * eps, atol=8 * eps)
    finite_rows = np.isfinite(x).all(axis=1)
    assert np.isfinite(function(x)[finite_rows]).all()


def test_operators_on_parameters_need_a_forward():
    with pytest.raises(pynn.StateError, match="compute only inside forward"):
        ops.relu(Parameter(np.ones(3)))


def test_a_function_of_symbols_is_a_module():
    model = _Function(lambda x: ops.tanh(x) * 2.0 - 1.0)
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(model(x), np.tanh(x) * 2 - 1, rtol=1e-6, atol=1e-7)
