"""A graph as a plan on a GPU, the second back end of plans: all values lie in one allocation at
fixed addresses, parameters and the optimiser's state in copies of their flat buffers, and a whole
training step is one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pynn.backends import cuda_module, get_precision
from pynn.errors import NonFiniteError
from pynn.executors.plan import LabelLoss, Plan, SquaredLoss
from pynn.executors.tape import Gradients, Stream, Tape
from pynn.graph import Array, Graph

if TYPE_CHECKING:
    from pynn.optim.optimizer import FusedGroup


def bind_stored(graph: Graph, run: Any) -> None:
    """Tell a pass where parameters, buffers and constants lie."""
    make = cuda_module().Twin
    for number, variable in graph.variables.items():
        twin, offset = variable.twin_of(graph.dtype, make)
        if twin is None:  # of integers: read in the model's dtype
            run.set_stored(number, np.asarray(variable.data, dtype=graph.dtype, order="C"))
        else:
            run.set_twin(number, twin, offset)
    for number, constant in graph.constants.items():
        run.set_stored(number, np.asarray(constant, dtype=graph.dtype, order="C"))


class DeviceTape(Tape):
    """A tape whose values are in the memory of a plan's pass on the device."""

    def __init__(self, plan: DevicePlan, run: Any, stream: Stream, inputs: Sequence[Array]) -> None:
        super().__init__(stream, plan.needed)
        self.plan, self.run, self.inputs = plan, run, inputs
        self.read = False  # see `PlanTape`

    def __del__(self) -> None:
        self.plan.free.append(self.run)


class DevicePlan(Plan):
    """A plan for one graph, one choice of gradients and one precision."""

    _foreign = " (not on the GPU: runs on the host, with copies)"

    def __init__(self, graph: Graph, needed: Sequence[bool] | None, precision: str) -> None:
        self.precision = precision
        super().__init__(graph, needed)
        self._committed = [
            index for index in range(len(graph.nodes)) if self.core.has_statistics(index)
        ]

    def _compile(self, *graph: Any) -> Any:
        return cuda_module().Plan(*graph, self.precision)

    def _start(self) -> Any:
        while self.free:
            run = super()._start()
            if not run.lost:
                return run
        return self.core.start()

    def forward(self, inputs: Sequence[Array], stream: Stream) -> DeviceTape:
        """Run the graph; see `pynn.executors.forward`."""
        graph, run = self.graph, self._start()
        tape = DeviceTape(self, run, stream, inputs)
        bind_stored(graph, run)
        run.set_stream(stream.seed, stream.step & 0xFFFFFFFF, stream.first_sample & 0xFFFFFFFF)
        self._fill(tape)
        if self.needed is not None:
            for index in self._committed:
                number = graph.nodes[index].output
                tape.outputs[number] = (np.empty(0), *run.statistics(index))
        tape.output = run.read(graph.output)
        return tape

    def backward(self, tape: DeviceTape, dy: Array, *, add: bool) -> Gradients:
        """Walk the graph in reverse; see `pynn.executors.backward`."""
        graph, run, needed = self.graph, tape.run, self.needed
        assert needed is not None
        if tape.read:
            self._fill(tape)
        tape.read = True
        run.write_gradient(graph.output, dy, False)
        index = run.backward(len(graph.nodes) - 1)
        while index >= 0:
            self._foreign_backward(tape, index, {})
            index = run.backward(index - 1)
        return Gradients(
            inputs=[
                (run.read_gradient(number) if self.core.reached(number) else self._zeros(number))
                if needed[number]
                else None
                for number in graph.inputs
            ],
            variables=[
                (variable, run.read_gradient(number))
                for number, variable in graph.variables.items()
                if self._trained(number)
            ],
        )

    def _operands(self, tape: Any, index: int) -> list[Array | None]:
        return [
            None if number is None else tape.run.read(number)
            for number in self.graph.nodes[index].inputs
        ]

    def whole_step(self) -> bool:
        """Whether a training step has its place on the device as a whole."""
        return not self.core.foreign and bool(self.trained())


class DevicePass:
    """Training steps of one batch shape: forward, loss, backward and updates on memory of their
    own, with everything bound that does not change from step to step."""

    takes_labels = True

    def __init__(self, plan: DevicePlan, groups: Sequence[FusedGroup]) -> None:
        graph = plan.graph
        self.graph, self.groups = graph, groups
        self.run = run = plan.core.start()
        bind_stored(graph, run)
        make = cuda_module().Twin
        group_of: dict[Any, tuple[int, FusedGroup]] = {
            parameter: (index, group)
            for index, group in enumerate(groups)
            for parameter in group.arrays
        }
        for number, parameter in graph.variables.items():
            if plan._trained(number):
                index, group = group_of[parameter]
                run.set_update(number, index, group.twins(parameter, make))  # type: ignore[arg-type]
        clip_value, clip_norm = groups[0].limits()
        run.set_limits(clip_value or 0.0, clip_norm or 0.0)
        # Running statistics are of the device; how many batches they have seen is counted here.
        self._counters = [
            graph.variables[node.inputs[5]]
            for node in graph.nodes
            if node.operator.name == "batch_norm" and node.attributes["training"]
            and node.inputs[5] is not None
        ]  # fmt: skip
        self.output_number = graph.output

    def forward(self, array: Array, seed: int, step: int) -> Array:
        """The output for an input (C-contiguous, of the graph's dtype)."""
        self.run.forward_all(array, seed, step & 0xFFFFFFFF)
        return self.output()

    def backward(self, dy: Array, settings: Sequence[tuple[Any, ...]]) -> None:
        """Gradients and updates, given the settings of each group.

        Raises:
            NonFiniteError: gradients are limited by their norm, and it is not finite; nothing is
                changed.
        """
        _, failed, norm = self.run.backward_all(dy, list(settings))
        if failed:
            raise not_finite(norm)

    def step(
        self,
        array: Any,
        target: Any,
        loss: LabelLoss | SquaredLoss,
        seed: int,
        step: int,
        settings: Sequence[tuple[Any, ...]],
    ) -> float:
        """Forward, loss, backward and updates: the loss. Where it is not finite, nothing is
        updated.

        Raises:
            NonFiniteError: as `backward` has it.
        """
        self._set_loss(loss)
        result = self.run.step(array, target, seed, step & 0xFFFFFFFF, list(settings))
        return float(_checked_losses(result)[0])

    def epoch(
        self,
        x: Any,
        y: Any,
        order: Array,
        loss: LabelLoss | SquaredLoss,
        scale: float,
        seed: int,
        step: int,
    ) -> tuple[Array, bool, float]:
        """Steps on batches that are gathered on the device: the loss of each, whether the last of
        them failed, and the norm of its gradients, where they are limited by it. A step fails where
        its loss or its norm is not finite: it updates nothing, and no step comes after it.

        Args:
            x, y: arrays on the device, rows first.
            order: rows, int64, a multiple of the batch.
            loss: what the steps minimise.
            scale: what x is multiplied by.
            seed, step: where random nodes draw from, in the first of these steps.
        """
        self._set_loss(loss)
        count = len(order) // self.graph.shapes[self.graph.inputs[0]][0]
        settings = list(zip(*(group.next_settings(count) for group in self.groups), strict=True))
        result = self.run.epoch(x, y, order, scale, seed, step & 0xFFFFFFFF, settings)
        return result[0], result[1], result[2]

    def output(self) -> Array:
        """What the model gave for the last batch."""
        result: Array = self.run.read(self.output_number)
        return result

    def updated(self, times: int = 1) -> None:
        """Say that steps were made."""
        for counter in self._counters:
            counter.data += times

    def _set_loss(self, loss: LabelLoss | SquaredLoss) -> None:
        if isinstance(loss, LabelLoss):
            self.run.set_cross_entropy(*loss)
        else:
            self.run.set_squared_error(*loss)


def _checked_losses(result: tuple[Array, bool, float]) -> Array:
    losses, failed, norm = result
    if failed and np.isfinite(losses[-1]):
        raise not_finite(norm)
    return losses


def not_finite(norm: float) -> NonFiniteError:
    """What is raised where the gradients have no norm to be limited by."""
    return NonFiniteError(f"the norm of the gradients is {norm}; the parameters were not changed")


def device_plan_for(graph: Graph, needed: Sequence[bool] | None) -> DevicePlan | None:
    """The plan on the device for this graph and these gradients; None where a value has no batch
    axis, or an empty one."""
    key = ("cuda", get_precision(), None if needed is None else tuple(needed))
    try:
        plan: DevicePlan | None = graph.plans[key]
    except KeyError:
        made = DevicePlan(graph, needed, get_precision()) if _fits(graph) else None
        plan = graph.plans.setdefault(key, made)
    return plan


def _fits(graph: Graph) -> bool:
    batch = graph.shapes[graph.inputs[0]][:1] if graph.inputs else ()
    values = [*graph.inputs, *(node.output for node in graph.nodes)]
    return (
        bool(graph.nodes)
        and any(node.output == graph.output for node in graph.nodes)
        and all(graph.shapes[number][:1] == batch for number in values)
        and all(0 not in graph.shapes[number] for number in values)
        and batch != ()
    )
