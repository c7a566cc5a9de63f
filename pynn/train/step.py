"""A compiled step: forward, loss, backward and update in one call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynn import cuda, executors
from pynn.arguments import require_kind, whole_number
from pynn.backends import get_backend, get_precision
from pynn.data.batches import Batches
from pynn.errors import NonFiniteError, ShapeError
from pynn.executors.plan import (
    FusedPass,
    LabelLoss,
    Plan,
    SquaredLoss,
    binds,
    checked_plan,
    plan_for,
    plan_settings,
)
from pynn.graph import Array, Graph, Shape, Stored, plain_array
from pynn.nn.losses import Loss
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter, latest_change
from pynn.optim.optimizer import FusedGroup, Optimizer
from pynn.random import get_seed

# How many shapes of batches a step keeps ready: the usual one, and the last, smaller one.
_KEPT = 4


def trained_by(optimizer: Optimizer) -> Callable[[Stored], bool]:
    """Whether an optimiser trains a variable of a graph."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return lambda variable: (
        isinstance(variable, Parameter) and variable.requires_grad and id(variable) in trained
    )


def _check_trained(graph: Graph, wanted: Callable[[Stored], bool]) -> None:
    if not any(wanted(variable) for variable in graph.variables.values()):
        raise ValueError(
            "the optimiser holds no parameter of this model that requires a gradient: nothing "
            "would be trained"
        )


class FusedStep:
    """A step on one batch shape whose updates are part of it.

    Attributes:
        model: whose graph it runs.
        graph: what it runs.
        groups: of parameters.
        device: the step on a GPU, or None.
        run: the step on the processor, in which each parameter is updated as soon as its gradient
            is known, or None.
        made_for: the settings of plans it was made with.
    """

    def __init__(
        self,
        model: Module,
        graph: Graph,
        optimizer: Optimizer,
        groups: list[FusedGroup],
        run: FusedPass | None,
        device: Any,
        made_for: tuple[int, bool],
    ) -> None:
        self.model, self.graph = model, graph
        self.optimizer, self.groups = optimizer, groups
        self.run, self.device = run, device
        self.made_for = made_for
        self._slots = [slots for group in groups for slots in group.slots]
        self._segments = list({id(s): s for group in groups for s in group.segments}.values())
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    @staticmethod
    def make(model: Module, graph: Graph, optimizer: Optimizer) -> FusedStep | None:
        """None where updates cannot be part of the step."""
        wanted, made_for = trained_by(optimizer), plan_settings()
        _check_trained(graph, wanted)
        if len(graph.inputs) != 1:
            return None
        needed = graph.gradient_paths(wanted, False)
        if get_backend() == "cuda":
            from pynn.executors.device import DevicePass, device_plan_for

            on_device = device_plan_for(graph, needed)
            if on_device is None or not on_device.whole_step():
                return None
            groups = optimizer.fused_groups(on_device.trained())
            if any(group.settings() is None for group in groups):
                return None
            device = DevicePass(on_device, groups)
            return FusedStep(model, graph, optimizer, groups, None, device, made_for)
        plan = plan_for(graph, needed, made_for)
        if plan is None or not plan.updates_fuse() or not plan.trained() or not binds(graph):
            return None
        groups = optimizer.fused_groups(plan.trained())
        arrays: dict[Stored, tuple[int, list[Any]]] = {}
        for number, group in enumerate(groups):
            for parameter, memory in group.arrays.items():
                arrays[parameter] = number, memory
        if any(group.settings() is None for group in groups):
            return None
        run = FusedPass(plan, arrays)
        return FusedStep(model, graph, optimizer, groups, run, None, made_for)

    def settings(self) -> list[tuple[Any, ...]] | None:
        """The settings of each group's next update; None where the optimiser has changed, or a
        device was lost."""
        if self.device is None:
            self._to_host()
        elif self.device.run.lost:
            return None
        settings = []
        for group in self.groups:
            values = group.settings()
            if values is None:
                return None
            settings.append(values)
        return settings

    def _to_host(self) -> None:
        for segment in self._segments:
            if segment.twin is not None:
                segment.twin.to_host()
        if self.optimizer._twins:
            self.optimizer.to_host()

    def updated(self, times: int = 1) -> None:
        """Say that as many updates are done, and forget gradients from before."""
        for slots in self._slots:
            slots.steps += times
        for segment in self._segments:
            segment.updates += times
        for parameter in self._parameters:
            if parameter._grad is not None:
                parameter._grad = None
        if self.device is not None:
            self.device.updated(times)


class CompiledStep:
    """What `compile` returns. Calling it with a batch trains on it and gives the loss.

    Attributes:
        steps: batches trained on so far.
        output: what the model gave for the last batch, before the update; mostly copied when it is
            read.
        last_finite_loss: the loss of the last batch whose loss was finite, or None.
        accumulated: batches whose gradients wait for the next update.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        accumulate: int = 1,
        keep_gradients: bool = False,
    ) -> None:
        for name, value, kind in (
            ("model", model, Module), ("loss", loss, Loss), ("optimizer", optimizer, Optimizer),
        ):  # fmt: skip
            require_kind(name, value, kind)
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.accumulate = whole_number("accumulate", accumulate, 1)
        self.keep_gradients = keep_gradients
        self.steps = 0
        self._output: Array | None = np.empty(0)
        self._output_of: Any = None  # a pass that has the output
        self.last_finite_loss: float | None = None
        self.accumulated = 0
        self._fused: dict[tuple[str, str, Shape], FusedStep | None] = {}
        self._last: FusedStep | None = None  # the one of the last batch
        # The latest change when the model was looked at, if it is settled, and for which shapes it
        # has been looked at since.
        self._change: object = None
        self._current: set[tuple[str, str, Shape]] = set()

    @property
    def output(self) -> Array:
        """What the model gave for the last batch, before the update."""
        output = self._output
        if output is None:
            with self.model._turn_to_read():
                output = self._output
                if output is None:  # nor has another thread read it meanwhile
                    output = self._output = self._output_of.output()
                    self._output_of = None
        return output

    @output.setter
    def output(self, value: Array) -> None:
        self._output, self._output_of = value, None

    def __call__(self, x: ArrayLike | cuda.Array, y: Any) -> float:
        """Train on one batch.

        Args:
            x: the input, shape (N, ...); converted to the model's dtype. On a GPU, a
                `pynn.cuda.Array` is read where it lies.
            y: the target, N labels or an array (N, ...), as the loss takes it; likewise.

        Returns:
            The loss before the update.

        Raises:
            NonFiniteError: the loss is not finite. Parameters, optimiser and running statistics are
                as before the step.
            ShapeError, DTypeError, LabelError: the batch does not fit; nothing has changed.
        """
        backend, model = get_backend(), self.model
        if backend == "cuda" and isinstance(x, cuda.Array):
            return float(self.epoch(x, y, range(len(x)), batch_size=len(x), scale=1.0)[0])
        with model._turn_to_train():
            value = self._at_once(x, y) if backend == "native" else None
            if value is None:
                value = self._at_length(x, y)
            if model._run_tape is not None:
                model._run_tape = None
            model.__dict__["_run_steps"] = model._run_steps + 1  # __setattr__ takes its time
            self.steps += 1
            self.last_finite_loss = value
            return value

    def _at_once(self, x: object, y: object) -> float | None:
        """The loss of a batch like the last one, which has been trained on, on the native back end;
        None, and nothing done, where that cannot be."""
        fused = self._last
        if (
            fused is None
            or fused.run is None
            or fused.model is not self.model
            or fused.optimizer is not self.optimizer
            or self._change is not latest_change()
            or self.accumulate > 1
            or self.keep_gradients
        ):
            return None
        settings = fused.settings()
        return None if settings is None else self._train_within(fused, settings, x, y)

    def _at_length(self, x: ArrayLike, y: Any) -> float:
        """The same for any batch."""
        array = self.model.as_input(x)
        target = plain_array("y", y)
        if target.ndim == 0 or len(target) != len(array):
            count = len(target) if target.ndim else "no"
            raise ShapeError(f"x has {len(array)} samples but y has {count}")
        fused = self._fused_step(array.shape)
        settings = None if fused is None else fused.settings()
        if fused is None:
            return self._plain(array, target)
        if settings is None:
            self._forget(array.shape)
            return self._plain(array, target)
        self._last = fused
        return self._run_fused(fused, settings, array, target)

    def epoch(
        self,
        x: Array | cuda.Array,
        y: Array | cuda.Array,
        order: ArrayLike,
        *,
        batch_size: int = 32,
        scale: float | None = None,
    ) -> Array:
        """Train on batches that are gathered, scaled and converted from the data. On a GPU this
        happens there, without the host between the batches.

        Args:
            x: all inputs, shape (N, ...), uint8, float32 or float64; on a GPU, a `pynn.cuda.Array`
                saves the copy to it.
            y: all targets, shape (N, ...), likewise.
            order: rows of x and y in the order in which they are trained on, such as
                `rng.permutation(N)`.
            batch_size: the last batch has the rows that are left.
            scale: what x is multiplied by; None is 1 / 255 for uint8 and 1 for floats.

        Returns:
            The loss of each batch before its update, float64.

        Raises:
            IndexError: a row does not exist; nothing has changed.
            PynnError: what a call with one batch raises; the batches before have been trained on.
        """
        if get_backend() == "cuda":
            from pynn.train.device_epoch import run_epoch

            losses = run_epoch(self, x, y, order, batch_size, scale)
            if losses is not None:
                return losses
        images, labels = (
            array if isinstance(array, np.ndarray) else np.asarray(array) for array in (x, y)
        )
        batches = Batches(
            images, labels, batch_size, shuffle=False, scale=scale, dtype=self.model.dtype,
            reuse=True,
        )  # fmt: skip
        return np.array([self(*batch) for batch in batches.in_order(order)], dtype=np.float64)

    def plan(self, shape: Shape) -> Plan:
        """What a step on an input of this shape runs on the native back end.

        Args:
            shape: of x, batch first.

        Returns:
            A plan; its `explain()` says what runs, in which layout, with flops and bytes.

        Raises:
            ShapeError: there is no plan: a value has not the batch as its first axis.
        """
        graph = self.model.trace(tuple(shape)).graph
        return checked_plan(graph, graph.gradient_paths(trained_by(self.optimizer), False))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_fused": {}, "_last": None, "_change": None, "_current": set(),
            "_output": self.output, "_output_of": None,
        }  # fmt: skip

    def _fused_step(self, shape: Shape) -> FusedStep | None:
        """The step for this input shape whose updates are part of the backward pass; None where the
        gradients must be known first."""
        if (
            self.accumulate > 1
            or self.keep_gradients
            or get_backend() == "numpy"
            or not self._updates_within_steps()
        ):
            return None
        change, key = latest_change(), self._key(shape)
        known = self._fused.get(key)
        fits = known is None or (
            known.made_for == plan_settings()
            and known.model is self.model
            and known.optimizer is self.optimizer
        )
        if self._change is change and key in self._current and key in self._fused and fits:
            return known
        graph = self.model.trace(shape).graph
        settled = change if self.model.is_settled(change) else None
        if settled is None or settled is not self._change:
            self._current.clear()
        self._change = settled
        if known is None or known.graph is not graph or not fits:
            self._fused.pop(key, None)
            self._last = None
            while len(self._fused) >= _KEPT:
                self._fused.pop(next(iter(self._fused)))
            self._fused[key] = FusedStep.make(self.model, graph, self.optimizer)
        self._current.add(key)
        return self._fused[key]

    def _updates_within_steps(self) -> bool:
        # On a GPU, all gradients are known before the update, and may be limited by their norm.
        if get_backend() == "cuda":
            return self.optimizer.updates_by_rule()
        return self.optimizer.fuses()

    def _forget(self, shape: Shape) -> None:
        """Have the step for this input shape made anew."""
        del self._fused[self._key(shape)]
        self._last = None

    def _made(self, fused: FusedStep, count: int, value: float | None) -> None:
        """Say that steps were made on a device, the last with this loss."""
        fused.updated(count)
        self.model._run_steps += count
        self.steps += count
        if value is not None:
            self.last_finite_loss = value
            self._output, self._output_of = None, fused.device

    def _key(self, shape: Shape) -> tuple[str, str, Shape]:
        return get_backend(), get_precision(), shape

    def _device_loss(self, output: Shape, target: Any) -> LabelLoss | SquaredLoss | None:
        """The loss, where a GPU computes it within the step."""
        kind = np.dtype(target.dtype).kind
        if kind in "iu" and len(output) == 2 and target.shape == output[:1]:
            return self.loss.of_labels()
        if kind == "f" and target.shape == output:
            return self.loss.of_values()
        return None

    def _loss_of(self, output: Array, target: Array) -> tuple[float, Array]:
        """The loss, which is finite, and its gradient."""
        view = output.view()
        view.flags.writeable = False  # backward may read it: no loss computes in its place
        value, gradient = self.loss.value_and_gradient(view, target)
        if np.shape(gradient) != output.shape:
            raise ShapeError(
                f"the loss gave a gradient of shape {np.shape(gradient)}, expected {output.shape}"
            )
        self._check_finite(value)
        return value, np.ascontiguousarray(gradient, dtype=output.dtype)

    def _check_finite(self, value: float) -> None:
        if not math.isfinite(value):
            last = "none" if self.last_finite_loss is None else f"{self.last_finite_loss:.6g}"
            raise NonFiniteError(
                f"the loss is {value} at step {self.steps + 1} (learning rate "
                f"{self.optimizer.lr:g}, last finite loss {last}); the model is as before this "
                "step. A smaller learning rate, or clip_norm= in the optimiser, may help"
            )

    def _run_fused(
        self, fused: FusedStep, settings: list[tuple[Any, ...]], array: Array, target: Array
    ) -> float:
        """One batch whose updates are part of the step."""
        if fused.device is not None:
            return self._run_on_device(fused, settings, array, target)
        assert fused.run is not None
        loss = self._train_within(fused, settings, array, self._as_values(fused, array, target))
        if loss is not None:
            return loss
        if fused.run.draws:
            fused.run.set_stream(get_seed(), self.model._run_steps)
        fused.run.prepare(settings, None)
        output = fused.run.forward(array)
        if output is None:  # another thread has just changed what plans depend on
            return self._plain(array, target)
        value, gradient = self._loss_of(output, target)
        fused.run.backward(gradient)
        fused.updated()
        self.output = output
        return value

    def _as_values(self, fused: FusedStep, array: Array, target: Array) -> Array:
        """A target that a loss of values takes, as the pass takes it; others as they are."""
        if (
            self.loss.of_values() is None
            or target.shape != fused.graph.shapes[fused.graph.output]
            or target.dtype.kind not in "buif"
        ):
            return target
        return np.ascontiguousarray(target, dtype=array.dtype)

    def _train_within(
        self, fused: FusedStep, settings: list[tuple[Any, ...]], x: object, y: object
    ) -> float | None:
        """The loss where it can be part of the pass; None, and nothing done, elsewhere."""
        run = fused.run
        if run is None:
            return None
        loss = self.loss.of_labels() if run.takes_labels else None
        squared = self.loss.of_values() if loss is None else None
        if loss is None and squared is None:
            return None
        if run.draws:
            run.set_stream(get_seed(), self.model._run_steps)
        run.prepare(settings, loss)
        if squared is None:
            value = run.step_on_labels(x, y)
        else:
            value = run.step_on_values(x, y, squared.mean)
        if value is None:
            return None
        if not math.isfinite(value):
            self._check_finite(value)
        fused.updated()
        self._output, self._output_of = None, run
        return value

    def _run_on_device(
        self, fused: FusedStep, settings: list[tuple[Any, ...]], array: Array, target: Array
    ) -> float:
        device, graph = fused.device, fused.graph
        loss = self._device_loss(graph.shapes[graph.output], target)
        if loss is None:
            output = device.forward(array, get_seed(), self.model._run_steps)
            value, gradient = self._loss_of(output, target)
            device.backward(gradient, settings)
            self.output = output
        else:
            value = device.step(array, target, loss, get_seed(), self.model._run_steps, settings)
            self._check_finite(value)
            self._output, self._output_of = None, device
        fused.updated()
        return value

    def _plain(self, array: Array, target: Array) -> float:
        """One batch with all gradients before the first update."""
        wanted = trained_by(self.optimizer)
        graph, tape = self.model._run_forward([array], wanted, input_gradient=False)
        _check_trained(graph, wanted)
        value, gradient = self._loss_of(tape.output, target)
        if self.accumulated == 0:
            self.optimizer.zero_grad()
        executors.backward(graph, tape, gradient, add=True)
        self._update()
        executors.commit(graph, tape)
        self.output = tape.output
        return value

    def _update(self) -> None:
        """Update, when enough batches have added up their gradients."""
        self.accumulated += 1
        if self.accumulated < self.accumulate:
            return
        self.accumulated = 0
        if self.accumulate > 1:
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad /= self.accumulate
        try:
            self.optimizer.step()
        finally:
            if not self.keep_gradients:
                self.optimizer.zero_grad()


def compile(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    keep_gradients: bool = False,
) -> CompiledStep:
    """Make a training step of a model, a loss and an optimiser.

    Args:
        model: what to train, in whichever mode it is in when the step is called.
        loss: such as nn.CrossEntropyLoss().
        optimizer: such as optim.SGD(model.parameters(), lr=0.01).
        accumulate: update after this many batches, with the mean of their gradients.
        keep_gradients: leave each parameter's .grad after the step instead of None.

    Returns:
        step: `loss = step(x, y)`.
    """
    return CompiledStep(
        model, loss, optimizer, accumulate=accumulate, keep_gradients=keep_gradients
    )
