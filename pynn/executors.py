"""Running a graph node by node, on whichever kernels the current back end names.

Every executor answers the same two calls: `forward(graph, inputs, stream, keep)` gives a Tape,
`backward(graph, tape, dy, needed)` gives the gradients of inputs and parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pynn.backends import kernels
from pynn.errors import ShapeError
from pynn.graph import Array, Attributes, Graph, Node, Shape, Stored


class Stream(NamedTuple):
    """Where random nodes draw from: the seed, the number of steps done before, and the first
    sample's place in the batch."""

    seed: int
    step: int
    first_sample: int = 0


class Tape:
    """What a forward pass leaves for the backward pass, and its result."""

    def __init__(self, values: dict[int, Array], output: Array, stream: Stream) -> None:
        self.values, self.output, self.stream = values, output, stream
        self.outputs: dict[int, tuple[Array, ...]] = {}  # by the number of the node's output


def _attributes(node: Node, stream: Stream) -> Attributes:
    if not node.operator.random:
        return node.attributes
    return node.attributes | {
        "seed": stream.seed,
        "step": stream.step,
        "node": node.ordinal,
        "first_sample": stream.first_sample,
    }


def _operands(graph: Graph, node: Node, values: dict[int, Array]) -> list[Array | None]:
    return [None if number is None else values[number] for number in node.inputs]


@contextmanager
def _at(node: Node) -> Iterator[None]:
    """Let an exception say where in the model it arose."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in {node.operator.name}, at {node.path}")
        raise


def _checked(node: Node, array: object, shape: Shape, dtype: np.dtype[Any], what: str) -> Array:
    """A result of a user's Python operator, held to what its shape rule promised."""
    result = np.asarray(array)
    if result.shape != shape:
        raise ShapeError(
            f"{node.path}: {what} of {node.operator.name!r} has shape {result.shape}, "
            f"expected {shape}"
        )
    return np.ascontiguousarray(result, dtype=dtype)


def forward(graph: Graph, inputs: Sequence[Array], stream: Stream, *, keep: bool) -> Tape:
    """Run the graph.

    Args:
        graph: what to run.
        inputs: one array for each input of the graph, in its dtype.
        stream: where random nodes draw from.
        keep: whether to keep what the backward pass needs; otherwise a value goes after its last
            use.
    """
    k: ModuleType = kernels()
    values: dict[int, Array] = dict(zip(graph.inputs, inputs, strict=True))
    for number, variable in graph.variables.items():
        values[number] = np.asarray(variable.data, dtype=graph.dtype)
    for number, constant in graph.constants.items():
        values[number] = np.asarray(constant, dtype=graph.dtype)
    tape = Tape(values, np.empty(0), stream)
    free = None if keep else graph.last_uses()
    for index, node in enumerate(graph.nodes):
        with _at(node):
            outputs = node.operator.forward(
                k, *_operands(graph, node, values), **_attributes(node, stream)
            )
        if node.operator.python:
            outputs = (
                _checked(node, outputs[0], graph.shapes[node.output], graph.dtype, "the result"),
            )
        values[node.output] = outputs[0]
        if free is None:
            tape.outputs[node.output] = outputs
        else:
            for number in free[index]:
                del values[number]
    tape.output = values[graph.output]
    if not any(node.output == graph.output for node in graph.nodes) or _aliases(
        tape.output, inputs
    ):
        tape.output = tape.output.copy()
    return tape


def _aliases(output: Array, inputs: Sequence[Array]) -> bool:
    return any(np.may_share_memory(output, array) for array in inputs)


class Gradients(NamedTuple):
    """The gradients of one backward pass."""

    inputs: list[Array | None]
    variables: list[tuple[Stored, Array]]


def backward(graph: Graph, tape: Tape, dy: Array, needed: Sequence[bool]) -> Gradients:
    """Walk the graph in reverse.

    Args:
        graph: what `forward` ran.
        tape: what it left, with `keep=True`.
        dy: gradient of the loss with respect to the output, in its shape and dtype.
        needed: for each value, whether its gradient is needed (`Graph.gradient_paths`).
    """
    k: ModuleType = kernels()
    gradients: dict[int, Array] = {graph.output: dy}
    for node in reversed(graph.nodes):
        dy_node = gradients.pop(node.output, None)
        if dy_node is None or not needed[node.output]:
            continue
        needs = tuple(number is not None and needed[number] for number in node.inputs)
        operands = _operands(graph, node, tape.values)
        with _at(node):
            result = node.operator.backward(
                k,
                dy_node,
                operands,
                tape.outputs[node.output],
                needs,
                **_attributes(node, tape.stream),
            )
        for number, need, gradient in zip(node.inputs, needs, result, strict=True):
            if number is None or not need:
                continue
            if gradient is None:
                raise ValueError(
                    f"{node.path}: backward of {node.operator.name!r} gave no gradient for an input"
                )
            if node.operator.python:
                gradient = _checked(node, gradient, graph.shapes[number], graph.dtype, "a gradient")  # noqa: PLW2901
            gradients[number] = (
                k.add(gradients[number], gradient) if number in gradients else gradient
            )
    return Gradients(
        inputs=[
            gradients.get(number, np.zeros(graph.shapes[number], graph.dtype))
            if needed[number]
            else None
            for number in graph.inputs
        ],
        variables=[
            (variable, gradients[number])
            for number, variable in graph.variables.items()
            if needed[number] and number in gradients
        ],
    )


def commit(graph: Graph, tape: Tape) -> None:
    """Let operators with running statistics take over those of this step, which has succeeded."""
    for node in graph.nodes:
        if node.operator.commit is not None:
            variables = [
                None if number is None else graph.variables.get(number) for number in node.inputs
            ]
            x_shape = graph.shapes[node.inputs[0] or 0]
            node.operator.commit(variables, tape.outputs[node.output], x_shape, **node.attributes)
