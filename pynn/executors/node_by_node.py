"""A graph node by node, on the kernels of whichever back end runs: the readable executor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pynn.backends import kernels
from pynn.executors.tape import (
    Gradients,
    Stream,
    Tape,
    run_node,
    run_node_backward,
    stored_arrays,
)
from pynn.graph import Array, Graph, Node


class NodeTape(Tape):
    """A tape that holds all values."""

    def __init__(
        self, stream: Stream, needed: Sequence[bool] | None, values: dict[int, Array]
    ) -> None:
        super().__init__(stream, needed)
        self.values = values


def _operands(node: Node, values: dict[int, Array]) -> list[Array | None]:
    return [None if number is None else values[number] for number in node.inputs]


def forward(
    graph: Graph, inputs: Sequence[Array], stream: Stream, needed: Sequence[bool] | None
) -> NodeTape:
    """Run the graph; see `pynn.executors.forward`."""
    k = kernels()
    values = dict(zip(graph.inputs, inputs, strict=True)) | stored_arrays(graph)
    tape = NodeTape(stream, needed, values)
    free = graph.last_uses() if needed is None else None
    for index, node in enumerate(graph.nodes):
        outputs = run_node(graph, node, k, _operands(node, values), stream)
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


def backward(graph: Graph, tape: NodeTape, dy: Array) -> Gradients:
    """Walk the graph in reverse; see `pynn.executors.backward`."""
    k = kernels()
    needed = tape.needed
    assert needed is not None
    gradients: dict[int, Array] = {graph.output: dy}
    for node in reversed(graph.nodes):
        dy_node = gradients.pop(node.output, None)
        if dy_node is None or not needed[node.output]:
            continue
        operands = _operands(node, tape.values)
        for place, gradient in run_node_backward(graph, node, k, dy_node, operands, tape, needed):
            number = node.inputs[place]
            assert number is not None
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
