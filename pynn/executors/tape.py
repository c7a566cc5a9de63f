"""What a forward pass leaves, and the running of one node: shared by all executors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pynn.errors import ShapeError
from pynn.graph import Array, Attributes, Graph, Node, Shape, Stored


class Stream(NamedTuple):
    """Where random nodes draw from: the seed, the number of steps done before, and the first
    sample's place in the batch."""

    seed: int
    step: int
    first_sample: int = 0


class Tape:
    """What a forward pass leaves for the backward pass, and its result.

    Attributes:
        output: the result.
        stream: what random nodes drew from.
        needed: for each value, whether backward computes its gradient; None: there is no backward.
        outputs: what nodes gave, by the number of their first output; of a plan, only what nodes
            that it does not know gave.
    """

    def __init__(self, stream: Stream, needed: Sequence[bool] | None) -> None:
        self.output: Array = np.empty(0)
        self.stream, self.needed = stream, needed
        self.outputs: dict[int, tuple[Array, ...]] = {}


class Gradients(NamedTuple):
    """The gradients of one backward pass. Those of parameters are empty where they were added to
    the parameters' own."""

    inputs: list[Array | None]
    variables: list[tuple[Stored, Array]]


def run_node(
    graph: Graph, node: Node, k: ModuleType, operands: Sequence[Array | None], stream: Stream
) -> tuple[Array, ...]:
    """One node forward, with the kernels of k."""
    with _at(node):
        outputs = node.operator.forward(k, *operands, **attributes_of(node, stream))
    if node.operator.python:
        return (_checked(node, outputs[0], graph.shapes[node.output], graph.dtype, "the result"),)
    return outputs


def run_node_backward(
    graph: Graph,
    node: Node,
    k: ModuleType,
    dy: Array,
    operands: Sequence[Array | None],
    tape: Tape,
    needed: Sequence[bool],
) -> Iterator[tuple[int, Array]]:
    """One node backward: for each input that needs one, its place among the inputs and its
    gradient."""
    needs = tuple(number is not None and needed[number] for number in node.inputs)
    with _at(node):
        result = node.operator.backward(
            k, dy, operands, tape.outputs[node.output], needs, **attributes_of(node, tape.stream)
        )
    for place, (number, need, gradient) in enumerate(zip(node.inputs, needs, result, strict=True)):
        if number is None or not need:
            continue
        if gradient is None:
            raise ValueError(
                f"{node.path}: backward of {node.operator.name!r} gave no gradient for an input"
            )
        if node.operator.python:
            shape = graph.shapes[number]
            gradient = _checked(node, gradient, shape, graph.dtype, "a gradient")  # noqa: PLW2901
        yield place, gradient


def attributes_of(node: Node, stream: Stream) -> Attributes:
    """A node's attributes, with what a random one draws from."""
    if not node.operator.random:
        return node.attributes
    return node.attributes | {
        "seed": stream.seed,
        "step": stream.step,
        "node": node.ordinal,
        "first_sample": stream.first_sample,
    }


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


def stored_arrays(graph: Graph) -> dict[int, Array]:
    """Parameters, buffers and constants by number, in the graph's dtype."""
    stored = {
        number: np.asarray(variable.data, dtype=graph.dtype)
        for number, variable in graph.variables.items()
    }
    for number, constant in graph.constants.items():
        stored[number] = np.asarray(constant, dtype=graph.dtype)
    return stored
