"""Every operator, from its one entry in the op table: as a call on arrays, and as a node of a plan."""

import numpy as np
import pytest

import pynn
from pynn import _core, executors, nn
from pynn.backends import backend
from pynn.executors import Stream
from pynn.executors.device import device_plan_for
from pynn.nn.parameter import Parameter
from pynn.testing.op_table import all_cases, all_refusals
from pynn.testing.samples import tolerance

CASES = [case for case in all_cases() if case.name != "many_classes" or case.operator]
PRODUCTS = [
    case for case in CASES if case.operator in ("linear", "matmul")
    or (case.operator == "conv2d" and case.arrays("float32")[1].shape[2:] == (1, 1))
]  # fmt: skip
CONVOLUTIONS = [case for case in CASES if case.operator == "conv2d"]
REFUSALS = all_refusals()
# Of these, all operands have a batch: they are inputs of the plan. Of the others, the first has.
ALL_INPUTS = ("add", "mul", "matmul", "concat")


@pytest.fixture(params=CASES, ids=str)
def case(request, cuda):
    return request.param


def close(got, expected, case, dtype, what):
    np.testing.assert_allclose(got, expected, **tolerance(case, expected, dtype), err_msg=what)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calls_equal_the_processor(case, dtype):
    expected, got = case.call("native", "float64"), case.call("cuda", dtype)
    if isinstance(got, np.ndarray):
        assert got.dtype == dtype
    close(got, expected, case, dtype, "y")
    expected, got = case.gradients("native", "float64"), case.gradients("cuda", dtype)
    for number, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        close(ours, theirs, case, dtype, f"gradient {number}")


def test_runs_have_the_same_bits(case):
    def bits():
        results = [np.asarray(case.call("cuda", "float32")), *case.gradients("cuda", "float32")]
        return [result.tobytes() for result in results]

    assert bits() == bits()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: f"{r.operator}-{r.name}")
def test_refusals_say_what_is_wrong(refusal, cuda):
    with pytest.raises(refusal.error) as caught:
        refusal.call("cuda")
    assert refusal.message in str(caught.value)


def test_kernels_have_the_names_of_the_processors(cuda):
    from pynn import reference

    assert set(reference.__all__) <= set(dir(cuda))


class Node(nn.Module):
    """An operator as a module: the first array is its input, the others are parameters."""

    def __init__(self, case, arrays):
        super().__init__()
        self.case = case
        self.holder = Parameter(np.zeros(1, arrays[0].dtype))
        self.others = nn.ModuleList()
        self.parts = [None if array is None else Parameter(array) for array in arrays[1:]]
        for number, part in enumerate(self.parts):
            setattr(self, f"part{number}", part)

    def forward(self, *inputs):
        return self.case.apply([*inputs, *self.parts[len(inputs) - 1 :]])


def run(case, backend_name, dtype):
    """Forward and backward of the node: y and all gradients, and the plan on the device."""
    arrays = case.arrays(dtype)
    batch = arrays[0].shape[:1]
    inputs = arrays if case.operator in ALL_INPUTS else arrays[:1]
    if any(array.shape[:1] != batch or array.ndim != arrays[0].ndim for array in inputs):
        inputs = arrays[:1]
    model = Node(case, arrays)
    wanted = {id(model.parts[index - 1]) for index in case.differentiable if index > 0}
    with backend(backend_name):
        graph = model.trace(*(array.shape for array in inputs)).graph
        needed = graph.gradient_paths(lambda variable: id(variable) in wanted, True)
        tape = executors.forward(graph, [a.copy() for a in inputs], Stream(1, 5, 3), needed)
        dy = case._weights(tape.output.shape).astype(dtype)
        gradients = executors.backward(graph, tape, dy)
        plan = device_plan_for(graph, needed) if backend_name == "cuda" else None
    return tape.output, [g for g in gradients.inputs if g is not None], {
        [id(p) for p in model.parts].index(id(variable)): g for variable, g in gradients.variables
    }, plan  # fmt: skip


def check_node(case, dtype):
    """The node on the device against float64 on the processor; the plan, where there was one."""
    y, inputs, variables, plan = run(case, "cuda", dtype)
    expected_y, expected_inputs, expected_variables, _ = run(case, "native", "float64")
    close(y, expected_y, case, dtype, "y")
    for number, (got, expected) in enumerate(zip(inputs, expected_inputs, strict=True)):
        close(got, expected, case, dtype, f"gradient of input {number}")
    assert variables.keys() == expected_variables.keys()
    for number, expected in expected_variables.items():
        close(variables[number], expected, case, dtype, f"gradient of parameter {number}")
    return plan


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nodes_equal_the_processor(case, dtype):
    if case.loss:
        return  # losses are not nodes
    plan = check_node(case, dtype)
    if plan is not None and case.name not in ("both_ways",):
        assert plan.core.foreign == [], plan.explain()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("product", PRODUCTS, ids=str)
def test_large_products_equal_the_processor(product, dtype, large_products):
    check_node(product, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_large_convolutions_equal_the_processor(convolution, dtype, large_convolutions):
    check_node(convolution, dtype)


def test_dropout_draws_the_processors_bits(on_cuda):
    x = np.random.default_rng(0).standard_normal((5, 3, 7)).astype(np.float32)
    expected = _core.dropout(x, 0.3, 11, 2, 1, 4)
    np.testing.assert_array_equal(
        pynn.ops.dropout(x, p=0.3, seed=11, step=2, node=1, first_sample=4), expected
    )
