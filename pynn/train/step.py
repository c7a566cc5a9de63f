"""A compiled step: forward, loss, backward and update in one call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from pynn import executors
from pynn._core import get_num_threads
from pynn.backends import get_backend
from pynn.data.batches import Batches
from pynn.errors import NonFiniteError, ShapeError
from pynn.executors.plan import FusedPass, LabelLoss, Plan, binds, checked_plan, plan_for
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
    """A step on one batch shape in which each parameter is updated as soon as its gradient is
    known."""

    def __init__(
        self, graph: Graph, run: FusedPass, optimizer: Optimizer, groups: list[FusedGroup]
    ) -> None:
        self.graph, self.run, self.optimizer, self.groups = graph, run, optimizer, groups
        self.threads = get_num_threads()

    @staticmethod
    def make(graph: Graph, optimizer: Optimizer) -> FusedStep | None:
        """None where updates cannot be part of the backward pass."""
        wanted = trained_by(optimizer)
        _check_trained(graph, wanted)
        plan = plan_for(graph, graph.gradient_paths(wanted, False))
        if plan is None or len(graph.inputs) != 1 or not plan.updates_fuse() or not plan.trained():
            return None
        if not binds(graph):
            return None
        groups = optimizer.fused_groups(plan.trained())
        arrays: dict[Stored, tuple[int, list[Any]]] = {}
        for number, group in enumerate(groups):
            for parameter, memory in group.arrays.items():
                arrays[parameter] = number, memory
        if any(group.settings() is None for group in groups):
            return None
        return FusedStep(graph, FusedPass(plan, arrays), optimizer, groups)

    def prepare(self, seed: int, step: int, loss: LabelLoss | None) -> bool:
        """Before a step, with the loss in it or not; False where the optimiser has changed."""
        settings = []
        for group in self.groups:
            values = group.settings()
            if values is None:
                return False
            settings.append(values)
        self.run.prepare(seed, step, settings, loss)
        return True

    def updated(self) -> None:
        """Say that the update is done, and forget all gradients."""
        for group in self.groups:
            group.updated()
        self.optimizer.zero_grad()


class CompiledStep:
    """What `compile` returns. Calling it with a batch trains on it and gives the loss.

    Attributes:
        steps: batches trained on so far.
        output: what the model gave for the last batch, before the update.
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
        if accumulate < 1:
            raise ValueError(f"accumulate must be 1 or more, got {accumulate}")
        for name, value, kind in (
            ("model", model, Module), ("loss", loss, Loss), ("optimizer", optimizer, Optimizer),
        ):  # fmt: skip
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.accumulate, self.keep_gradients = accumulate, keep_gradients
        self.steps = 0
        self.output: Array = np.empty(0)
        self.last_finite_loss: float | None = None
        self.accumulated = 0
        self._fused: dict[Shape, FusedStep | None] = {}
        self._last: FusedStep | None = None  # the one that the last batch was trained with
        self._change: object = None  # the latest when the model was last looked at, if it is settled

    def __call__(self, x: ArrayLike, y: Any) -> float:
        """Train on one batch.

        Args:
            x: the input, shape (N, ...); converted to the model's dtype.
            y: the target, N labels or an array (N, ...), as the loss takes it.

        Returns:
            The loss before the update.

        Raises:
            NonFiniteError: the loss is not finite. Parameters, optimiser and running statistics are
                as before the step.
            ShapeError, DTypeError, LabelError: the batch does not fit; nothing has changed.
        """
        model = self.model
        with model._turn_to_train():
            if model._run_tape is not None:
                model._run_tape = None
            value = self._at_once(x, y)
            if value is None:
                value = self._at_length(x, y)
            model.__dict__["_run_steps"] = model._run_steps + 1  # __setattr__ takes its time
            self.steps += 1
            self.last_finite_loss = value
            return value

    def _at_once(self, x: object, y: object) -> float | None:
        """The loss of a batch like the last one, which has been trained on; None, and nothing done,
        where that cannot be."""
        fused = self._last
        if (
            fused is None
            or self._change is not latest_change()
            or self.accumulate > 1
            or self.keep_gradients
            or get_backend() != "native"
        ):
            return None
        return self._train_on_labels(fused, x, y)

    def _train_on_labels(self, fused: FusedStep, x: object, y: object) -> float | None:
        """The loss where it is of labels and can be part of the pass; None, and nothing done,
        elsewhere."""
        loss = self.loss.of_labels()
        if loss is None or not fused.run.takes_labels:
            return None
        if not fused.prepare(get_seed(), self.model._run_steps, loss):
            return None
        result = fused.run.step_on_labels(x, y)
        if result is None:
            return None
        value, output = result
        if not math.isfinite(value):
            self._refuse(value)
        fused.updated()
        self.output = output
        return value

    def _at_length(self, x: ArrayLike, y: Any) -> float:
        """The same for any batch."""
        array = self.model.as_input(x)
        target = plain_array("y", y)
        if target.ndim == 0 or len(target) != len(array):
            count = len(target) if target.ndim else "no"
            raise ShapeError(f"x has {len(array)} samples but y has {count}")
        fused = self._fused_step(array.shape)
        if fused is None:
            return self._plain(array, target)
        self._last = fused
        value = self._train_on_labels(fused, array, target)
        if value is not None:
            return value
        if not fused.prepare(get_seed(), self.model._run_steps, None):
            self._forget(array.shape)  # made anew for the next batch
            return self._plain(array, target)
        output = fused.run.forward(array)
        if output is None:  # another thread has just changed the number of threads
            return self._plain(array, target)
        value, gradient = self._loss_of(output, target)
        fused.run.backward(gradient)
        fused.updated()
        self.output = output
        return value

    def epoch(
        self,
        x: Array,
        y: Array,
        order: ArrayLike,
        *,
        batch_size: int = 32,
        scale: float | None = None,
    ) -> Array:
        """Train on batches that are gathered, scaled and converted from the data.

        Args:
            x: all inputs, shape (N, ...), uint8, float32 or float64.
            y: all targets, shape (N, ...).
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
        batches = Batches(
            x, y, batch_size, shuffle=False, scale=scale, dtype=self.model.dtype, reuse=True
        )
        return np.array([self(*batch) for batch in batches.in_order(order)], dtype=np.float64)

    def plan(self, shape: Shape) -> Plan:
        """What a step on an input of this shape runs on the native back end.

        Args:
            shape: of x, batch first.

        Returns:
            A plan; its `explain()` says what runs, in which layout, with flops and bytes.

        Raises:
            ShapeError: there is no plan for this input: a value has not the batch as its first axis.
        """
        graph = self.model.trace(tuple(shape)).graph
        return checked_plan(graph, graph.gradient_paths(trained_by(self.optimizer), False))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fused": {}, "_last": None, "_change": None}

    def _forget(self, shape: Shape) -> None:
        self._fused.pop(shape, None)
        self._last = None

    def _fused_step(self, shape: Shape) -> FusedStep | None:
        """The step for this input shape whose updates are part of the backward pass; None where the
        gradients must be known first."""
        if (
            self.accumulate > 1
            or self.keep_gradients
            or get_backend() != "native"
            or not self.optimizer.fuses()
        ):
            return None
        change, known = latest_change(), self._fused.get(shape)
        same_threads = known is None or known.threads == get_num_threads()
        if self._change is change and shape in self._fused and same_threads:
            return known
        graph = self.model.trace(shape).graph
        self._change = change if self.model.is_settled(change) else None
        if known is None or known.graph is not graph or not same_threads:
            self._forget(shape)
            while len(self._fused) >= _KEPT:
                self._fused.pop(next(iter(self._fused)))
            self._fused[shape] = FusedStep.make(graph, self.optimizer)
        return self._fused[shape]

    def _loss_of(self, output: Array, target: Array) -> tuple[float, Array]:
        """The loss, which is finite, and its gradient."""
        view = output.view()
        view.flags.writeable = False  # backward may read it: no loss computes in its place
        value, gradient = self.loss.value_and_gradient(view, target)
        if np.shape(gradient) != output.shape:
            raise ShapeError(
                f"the loss gave a gradient of shape {np.shape(gradient)}, expected {output.shape}"
            )
        if not math.isfinite(value):
            self._refuse(value)
        return value, np.ascontiguousarray(gradient, dtype=output.dtype)

    def _refuse(self, value: float) -> NoReturn:
        last = "none" if self.last_finite_loss is None else f"{self.last_finite_loss:.6g}"
        raise NonFiniteError(
            f"the loss is {value} at step {self.steps + 1} (learning rate {self.optimizer.lr:g}, "
            f"last finite loss {last}); the model is as before this step. A smaller learning rate, "
            "or clip_norm= in the optimiser, may help"
        )

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
