"""A compiled step: forward, loss, backward and update in one call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynn import executors
from pynn.errors import NonFiniteError, ShapeError
from pynn.graph import Array, Stored, plain_array
from pynn.nn.losses import Loss
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter
from pynn.optim.optimizer import Optimizer


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
        array = self.model.as_input(x)
        target = plain_array("y", y)
        if target.ndim == 0 or len(target) != len(array):
            count = len(target) if target.ndim else "no"
            raise ShapeError(f"x has {len(array)} samples but y has {count}")
        self.model._run_tape = None
        trained = {
            id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]
        }

        def wanted(variable: Stored) -> bool:
            return (
                isinstance(variable, Parameter)
                and variable.requires_grad
                and id(variable) in trained
            )

        graph, tape = self.model._run_forward([array], wanted, input_gradient=False)
        if not any(wanted(variable) for variable in graph.variables.values()):
            raise ValueError(
                "the optimiser holds no parameter of this model that requires a gradient: nothing "
                "would be trained"
            )
        output = tape.output.view()
        output.flags.writeable = False  # backward may read it: no loss computes in its place
        value, gradient = self.loss.value_and_gradient(output, target)
        if np.shape(gradient) != output.shape:
            raise ShapeError(
                f"the loss gave a gradient of shape {np.shape(gradient)}, expected {output.shape}"
            )
        gradient = np.ascontiguousarray(gradient, dtype=graph.dtype)
        if not math.isfinite(value):
            last = "none" if self.last_finite_loss is None else f"{self.last_finite_loss:.6g}"
            raise NonFiniteError(
                f"the loss is {value} at step {self.steps + 1} (learning rate "
                f"{self.optimizer.lr:g}, last finite loss {last}); the model is as before this "
                "step. A smaller learning rate, or clip_norm= in the optimiser, may help"
            )
        if self.accumulated == 0:
            self.optimizer.zero_grad()
        executors.backward(graph, tape, gradient, add=True)
        self._update()
        executors.commit(graph, tape)
        self.model._run_steps += 1
        self.steps += 1
        self.output, self.last_finite_loss = tape.output, value
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
