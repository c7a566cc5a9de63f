"""A graph as a plan of the C++ engine: layouts, memory and fusions are settled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pynn import _core
from pynn.backends import get_backend
from pynn.errors import ShapeError
from pynn.executors.tape import (
    Gradients,
    Stream,
    Tape,
    run_node,
    run_node_backward,
    stored_arrays,
)
from pynn.graph import Array, Graph, Stored


class LabelLoss(NamedTuple):
    """The cross-entropy of labels, as a plan computes it."""

    label_smoothing: float
    ignore_index: int | None
    mean: bool


class SquaredLoss(NamedTuple):
    """The squared error of a target of the output's shape, as a plan computes it."""

    mean: bool


class PlanTape(Tape):
    """A tape whose values are in the memory of a plan's pass; the pass goes back to the plan when
    the tape is dropped."""

    def __init__(
        self, plan: Plan, run: _core.Pass, stream: Stream, inputs: Sequence[Array]
    ) -> None:
        super().__init__(stream, plan.needed)
        self.plan, self.run, self.inputs = plan, run, inputs
        self.stored = stored_arrays(plan.graph)
        self.read = False  # by backward, whose gradients may lie where values were

    def __del__(self) -> None:
        self.run.release()
        self.plan.free.append(self.run)


class Plan:
    """A plan for one graph and one choice of gradients, and memory of its passes that wait to be
    used again."""

    _foreign = " (not in plans: runs on arrays (N, ...))"

    def __init__(self, graph: Graph, needed: Sequence[bool] | None, winograd: bool = False) -> None:
        stored = [
            number in graph.variables or number in graph.constants
            for number in range(len(graph.shapes))
        ]
        self.graph, self.needed, self.winograd = graph, needed, winograd
        self.free: list[Any] = []
        self.core = self._compile(
            graph.dtype == np.float64,
            graph.shapes,
            stored,
            [] if needed is None else list(needed),
            graph.inputs,
            [
                (
                    node.operator.name,
                    tuple(-1 if number is None else number for number in node.inputs),
                    node.output,
                    node.attributes | {"node": max(node.ordinal, 0)},
                    node.operator.library
                    and (node.operator.library, node.attributes, node.path, max(node.ordinal, 0)),
                )
                for node in graph.nodes
            ],
            graph.output,
        )

    def _compile(self, *graph: Any) -> Any:
        return _core.Plan(*(*graph, self.winograd))

    def _start(self) -> Any:
        try:
            return self.free.pop()  # by another thread it may just have been taken
        except IndexError:
            return self.core.start()

    def forward(self, inputs: Sequence[Array], stream: Stream) -> Tape:
        """Run the graph; see `pynn.executors.forward`."""
        graph, run = self.graph, self._start()
        tape = PlanTape(self, run, stream, inputs)
        for number, array in tape.stored.items():
            run.set_stored(number, np.asarray(array, order="C"))
        run.set_stream(stream.seed, stream.step & 0xFFFFFFFF, stream.first_sample & 0xFFFFFFFF)
        self._fill(tape)
        tape.output = run.read(graph.output)
        return tape

    def _fill(self, tape: Any) -> None:
        """Compute the values of a tape from its inputs."""
        graph, run = self.graph, tape.run
        for number, array in zip(graph.inputs, tape.inputs, strict=True):
            run.set_input(number, array)
        index = run.forward(0)
        while index < len(graph.nodes):
            node = graph.nodes[index]
            outputs = run_node(graph, node, _core, self._operands(tape, index), tape.stream)
            run.write(node.output, outputs[0])
            if self.needed is not None:
                tape.outputs[node.output] = outputs
            index = run.forward(index + 1)

    def backward(self, tape: Any, dy: Array, *, add: bool) -> Gradients:
        """Walk the graph in reverse; see `pynn.executors.backward`."""
        graph, run, needed = self.graph, tape.run, self.needed
        assert needed is not None
        if tape.read:
            self._fill(tape)
        tape.read = True
        trained = [
            (number, variable)
            for number, variable in graph.variables.items()
            if self._trained(number)
        ]
        # Operators that may raise half-way get memory of their own, so that nothing is half added.
        in_place = add and not self.core.foreign and not self.core.may_fail
        fresh: dict[int, Array] = {}
        for number, variable in trained:
            if in_place:
                run.set_gradient(number, *variable.gradient_memory())
            else:
                fresh[number] = np.zeros(graph.shapes[number], graph.dtype)
                run.set_gradient(number, fresh[number], False)
        run.write_gradient(graph.output, dy, False)
        index = run.backward(len(graph.nodes) - 1)
        while index >= 0:
            self._foreign_backward(tape, index, fresh)
            index = run.backward(index - 1)
        if in_place:
            for _, variable in trained:
                variable.take_gradient()
        return Gradients(
            inputs=[
                (run.read_gradient(number) if self.core.reached(number) else self._zeros(number))
                if needed[number]
                else None
                for number in graph.inputs
            ],
            variables=[] if in_place else [(variable, fresh[n]) for n, variable in trained],
        )

    def _zeros(self, number: int) -> Array:
        return np.zeros(self.graph.shapes[number], self.graph.dtype)

    def _operands(self, tape: Any, index: int) -> list[Array | None]:
        return [
            None
            if number is None
            else tape.stored[number]
            if number in tape.stored
            else tape.run.read(number)
            for number in self.graph.nodes[index].inputs
        ]

    def _foreign_backward(self, tape: Any, index: int, fresh: dict[int, Array]) -> None:
        """A node that the plan does not know."""
        graph, run, needed = self.graph, tape.run, self.needed
        assert needed is not None
        node = graph.nodes[index]
        dy = run.read_gradient(node.output)
        operands = self._operands(tape, index)
        for place, gradient in run_node_backward(graph, node, _core, dy, operands, tape, needed):
            number = node.inputs[place]
            assert number is not None
            again = self.core.gradient_written(index, place)
            if number not in fresh:
                run.write_gradient(number, gradient, again)
            elif again:
                fresh[number] += gradient
            else:
                fresh[number][...] = gradient

    def explain(self) -> str:
        """What runs, in the order it runs: for each node, what it became, the layout of its result
        ([blocks of 16 samples][channels][rows][columns][16], with a halo of zeros where a
        convolution needs one; of few samples [samples][channels][rows][columns]; "and [1]..." is
        a last block of few samples, whose images lie in bands of rows side by side), the arithmetic
        forward and backward, and the size of the result."""
        rows = [("where", "what", "layout", "MFLOP", "backward", "KiB")]
        flops = backward_flops = 0
        for node, report in zip(self.graph.nodes, self.core.report(), strict=True):
            what, layout, forward, backward, size = report
            if not what:
                what = node.operator.name + (
                    self._foreign if layout else " (part of the product above)"
                )
            flops, backward_flops = flops + forward, backward_flops + backward
            rows.append((
                node.path, what, layout, f"{forward / 1e6:.2f}" if forward else "",
                f"{backward / 1e6:.2f}" if backward and self.needed else "",
                f"{size / 1024:.0f}" if size else "",
            ))  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = [
            "  ".join(
                text.ljust(width) if column < 3 else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        batch = self.graph.shapes[self.graph.inputs[0]][0]
        total = f"{flops / 1e6:.1f} MFLOP forward"
        if self.needed is not None:
            total += f", {backward_flops / 1e6:.1f} backward"
        lines.append(
            f"batch of {batch}, {self.graph.dtype}: {total}; "
            f"{self.core.bytes / 2**20:.1f} MiB of memory"
        )
        return "\n".join(lines)

    def trained(self) -> set[Stored]:
        """The parameters that get gradients."""
        return {
            variable for number, variable in self.graph.variables.items() if self._trained(number)
        }

    def updates_fuse(self) -> bool:
        """Whether each parameter's gradient is known as soon as one node has been walked."""
        uses = Counter(number for node in self.graph.nodes for number in set(node.inputs))
        whole = not self.core.foreign and not self.core.may_fail
        return whole and all(
            uses[number] == 1 for number in self.graph.variables if self._trained(number)
        )

    def _trained(self, number: int) -> bool:
        return bool(self.needed and self.needed[number]) and self.core.reached(number)


def binds(graph: Graph) -> bool:
    """Whether parameters, buffers and constants can be read where they are, pass after pass."""
    arrays = [*graph.constants.values(), *(v.data for v in graph.variables.values())]
    return all(array.dtype == graph.dtype and array.flags.c_contiguous for array in arrays)


def _draws(graph: Graph) -> bool:
    return any(node.operator.random for node in graph.nodes)


class Evaluation:
    """Forward passes of one batch shape, with everything bound that does not change from call to
    call; several threads may call at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # This may move parameters.
        self._holders = {variable.holder() for variable in plan.graph.variables.values()}
        self._stored = stored_arrays(plan.graph)
        self._random = _draws(plan.graph)
        self._free: list[_core.Pass] = []

    def __call__(self, x: object, seed: int, step: int) -> Array | None:
        """The output for an input; None where it is not an array that a pass takes, or where the
        number of threads has changed."""
        try:
            run = self._free.pop()  # by another thread it may just have been taken
        except IndexError:
            run = self._start()
        for holder in self._holders:
            if holder.twin is not None:
                holder.twin.to_host()
        if self._random:
            run.set_stream(seed, step & 0xFFFFFFFF, 0)
        try:
            return run.forward_all(x)
        finally:
            self._free.append(run)

    def _start(self) -> _core.Pass:
        graph = self._plan.graph
        run: _core.Pass = self._plan.core.start()
        run.set_ends(graph.inputs[0], graph.output)
        for number, array in self._stored.items():
            run.set_stored(number, np.asarray(array, order="C"))
        return run


class FusedPass:
    """Forward and backward of one batch shape, on memory of its own, with everything bound that
    does not change from step to step."""

    def __init__(self, plan: Plan, arrays: Mapping[Stored, tuple[int, list[Any]]]) -> None:
        graph = plan.graph
        self.takes_labels: bool = plan.core.takes_labels
        run: _core.Pass = plan.core.start()
        self._run = run
        # The output for an input; None where it is not an array that the pass takes, or where the
        # number of threads has changed.
        self.forward = run.forward_all
        # Forward, loss, backward and updates, given an input and labels: the loss. Where it is not
        # finite, nothing is updated. None as above, and where the labels are not (N,).
        self.step_on_labels = run.step_on_labels
        # The same for squared differences from values of the output's shape; None where they are
        # not of the plan's dtype.
        self.step_on_values = run.step_on_values
        # The output of the last such step whose loss was finite, a copy.
        self.output = run.output
        self.draws = _draws(graph)  # whether `set_stream` is needed before each step
        self._last = len(graph.nodes) - 1
        # What the pass has been told.
        self._settings: Sequence[tuple[Any, ...]] = ()
        self._loss: LabelLoss | None = None
        run.set_ends(graph.inputs[0], graph.output)
        for number, array in stored_arrays(graph).items():
            run.set_stored(number, np.asarray(array, order="C"))
        for number, variable in graph.variables.items():
            if plan._trained(number):
                group, memory = arrays[variable]
                run.set_update(number, group, memory)

    def set_stream(self, seed: int, step: int) -> None:
        """What random nodes draw from."""
        self._run.set_stream(seed, step & 0xFFFFFFFF, 0)

    def prepare(self, settings: Sequence[tuple[Any, ...]], loss: LabelLoss | None) -> None:
        """Before a step: the settings of each group's update, and the loss, if it is part of the
        step."""
        if settings != self._settings:
            for group, values in enumerate(settings):
                self._run.set_settings(group, *values)
            self._settings = settings
        if loss is not self._loss and loss is not None:
            self._run.set_loss(*loss)
            self._loss = loss

    def backward(self, dy: Array) -> None:
        """Gradients and updates."""
        self._run.backward_all(dy, self._last)


def plan_settings() -> tuple[int, bool]:
    """What a plan depends on beside its graph: threads, and whether Winograd's filtering is on."""
    return _core.get_num_threads(), _core.get_winograd()


def plan_for(
    graph: Graph, needed: Sequence[bool] | None, settings: tuple[int, bool] | None = None
) -> Plan | None:
    """The plan for this graph and these gradients; None where a value has not the batch as its
    first axis, or no elements. settings: those of now, unless given."""
    threads, winograd = settings or plan_settings()
    key = (threads, winograd, None if needed is None else tuple(needed))
    try:
        plan: Plan | None = graph.plans[key]
    except KeyError:
        # Threads that come here at once make a plan each, and keep the first.
        made = Plan(graph, needed, winograd) if _fits(graph) else None
        plan = graph.plans.setdefault(key, made)
    return plan


def evaluation_for(graph: Graph) -> Evaluation | None:
    """What runs this graph forward with everything bound; None where it must be run node by node,
    some nodes are not in plans, or what it reads must be converted."""
    settings = plan_settings()
    plan = plan_for(graph, None, settings)
    if plan is None or plan.core.foreign or len(graph.inputs) != 1 or not binds(graph):
        return None
    key = (*settings, "evaluation")
    if key not in graph.plans:
        graph.plans.setdefault(key, Evaluation(plan))
    evaluation: Evaluation = graph.plans[key]
    return evaluation


def checked_plan(graph: Graph, needed: Sequence[bool] | None) -> Plan:
    """The plan that runs on the current back end (the native one's, where that has none), or a
    ShapeError."""
    if get_backend() == "cuda":
        from pynn.executors.device import device_plan_for

        plan: Plan | None = device_plan_for(graph, needed)
    else:
        plan = plan_for(graph, needed)
    if plan is None:
        raise ShapeError(
            f"there is no plan for input shape {graph.shapes[graph.inputs[0]]}: plans are for "
            "values that have the batch as their first axis; this runs operator by operator"
        )
    return plan


def _fits(graph: Graph) -> bool:
    batch = graph.shapes[graph.inputs[0]][0] if graph.inputs else 0
    values = [*graph.inputs, *(node.output for node in graph.nodes)]
    return (
        batch > 0
        and bool(graph.nodes)
        and any(node.output == graph.output for node in graph.nodes)
        and all(graph.shapes[number][:1] == (batch,) for number in values)
        and all(0 not in graph.shapes[number] for number in values)
    )
