"""Running a graph. Every executor answers the same two calls: `forward` gives a tape, `backward`
the gradients. The native back end runs batches as plans (`plan`), the CUDA back end as plans on the
device (`device`); everything else runs node by node, on whichever kernels the back end names
(`node_by_node`)."""

from __future__ import annotations

from collections.abc import Sequence

from pynn.backends import get_backend
from pynn.executors import node_by_node
from pynn.executors.node_by_node import NodeTape
from pynn.executors.plan import Plan, plan_for
from pynn.executors.tape import Gradients, Stream, Tape
from pynn.graph import Array, Graph

__all__ = ["Gradients", "Stream", "Tape", "backward", "commit", "forward"]


def forward(
    graph: Graph, inputs: Sequence[Array], stream: Stream, needed: Sequence[bool] | None = None
) -> Tape:
    """Run the graph.

    Args:
        graph: what to run.
        inputs: one C-contiguous array for each input of the graph, in its dtype.
        stream: where random nodes draw from.
        needed: for each value, whether `backward` is to compute its gradient
            (`Graph.gradient_paths`); None where no backward pass follows, so that a value goes
            after its last use.
    """
    plan: Plan | None = None
    if get_backend() == "native":
        plan = plan_for(graph, needed)
    elif get_backend() == "cuda":
        plan = _device_plan(graph, needed)
    if plan is not None:
        return plan.forward(inputs, stream)
    return node_by_node.forward(graph, inputs, stream, needed)


def _device_plan(graph: Graph, needed: Sequence[bool] | None) -> Plan | None:
    from pynn.executors.device import device_plan_for  # only where there is a device

    return device_plan_for(graph, needed)


def backward(graph: Graph, tape: Tape, dy: Array, *, add: bool = False) -> Gradients:
    """Walk the graph in reverse.

    Args:
        graph: what `forward` ran.
        tape: what it left, given `needed`.
        dy: gradient of the loss with respect to the output, in its shape and dtype.
        add: whether the gradients of parameters are added to the parameters' own; otherwise they
            are returned.
    """
    if isinstance(tape, NodeTape):
        gradients = node_by_node.backward(graph, tape, dy)
    else:
        plan: Plan = tape.plan  # type: ignore[attr-defined]
        gradients = plan.backward(tape, dy, add=add)
    if add:
        for variable, gradient in gradients.variables:
            variable.add_gradient(gradient)
        gradients.variables.clear()
    return gradients


def commit(graph: Graph, tape: Tape) -> None:
    """Let operators with running statistics take over those of this step, which has succeeded."""
    for node in graph.nodes:
        if node.operator.commit is not None:
            variables = [
                None if number is None else graph.variables.get(number) for number in node.inputs
            ]
            x_shape = graph.shapes[node.inputs[0] or 0]
            node.operator.commit(variables, tape.outputs[node.output], x_shape, **node.attributes)
