"""Learning-rate schedules: each sets the learning rates of an optimiser's groups when it steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pynn.arguments import real_number, share, whole_number
from pynn.errors import FormatError
from pynn.optim.optimizer import Optimizer


class Schedule:
    """Base of schedules that are functions of the number of steps done.

    Attributes:
        per_batch: whether `pynn.fit` steps it after each batch rather than after each epoch.
    """

    per_batch = False

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = _checked(optimizer)
        self.base = [float(group["lr"]) for group in optimizer.param_groups]
        self.steps = 0
        self._apply()

    def factor(self, steps: int) -> float:
        """What each group's first learning rate is multiplied by after this many steps."""
        raise NotImplementedError

    def _apply(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = lr * self.factor(self.steps)

    def step(self, metric: float | None = None) -> None:
        """Count one epoch (or batch) and set the learning rates. The metric matters to
        ReduceLROnPlateau alone."""
        for group in self.optimizer.param_groups[len(self.base) :]:  # added since the last step
            self.base.append(float(group["lr"]) / (self.factor(self.steps) or 1.0))
        self.steps += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as plain numbers."""
        return {"steps": self.steps, "base": list(self.base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        base = [float(lr) for lr in state["base"]]
        if len(base) != len(self.optimizer.param_groups):
            raise FormatError(
                f"the state is of {len(base)} groups, the optimiser has "
                f"{len(self.optimizer.param_groups)}"
            )
        self.steps, self.base = int(state["steps"]), base
        self._apply()


def _checked(optimizer: Optimizer) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"a schedule takes an optimiser, got {type(optimizer).__name__}")
    return optimizer


class StepLR(Schedule):
    """Multiply the learning rate by gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = whole_number("step_size", step_size, 1)
        self.gamma = real_number("gamma", gamma)
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """`gamma ** (steps // step_size)`."""
        return float(self.gamma ** (steps // self.step_size))


class CosineAnnealingLR(Schedule):
    """Half a cosine from the first learning rate down to `floor` times it, over t_max epochs; then
    it stays there.

    Loshchilov, Hutter, "SGDR", 2017, without restarts.
    """

    def __init__(self, optimizer: Optimizer, t_max: int, floor: float = 0.0) -> None:
        self.t_max, self.floor = whole_number("t_max", t_max, 1), real_number("floor", floor)
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """`floor + (1 - floor) (1 + cos(pi steps / t_max)) / 2`."""
        share = min(steps / self.t_max, 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2


class OneCycleLR(Schedule):
    """Up from max / start_divisor to max, then down to max / start_divisor / end_divisor, both
    along half a cosine.

    Smith, Topin, "Super-convergence", 2018; PyTorch's OneCycleLR without its cycle of momentum.
    Steps after each batch.

    Args:
        optimizer: the learning rates of its groups are replaced.
        max_lr: the highest learning rate.
        total_steps: number of batches in the whole training.
        warm_up: share of the steps that go up.
        start_divisor: PyTorch's div_factor.
        end_divisor: PyTorch's final_div_factor.
    """

    per_batch = True

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        *,
        warm_up: float = 0.3,
        start_divisor: float = 25.0,
        end_divisor: float = 1e4,
    ) -> None:
        for name, divisor in (("start_divisor", start_divisor), ("end_divisor", end_divisor)):
            if not real_number(name, divisor) > 0:
                raise ValueError(f"{name} must be above 0, got {divisor}")
        self.total_steps = whole_number("total_steps", total_steps, 1)
        self.warm_up = share("warm_up", warm_up)
        self.start, self.end = 1 / start_divisor, 1 / (start_divisor * end_divisor)
        _checked(optimizer).lr = real_number("max_lr", max_lr)
        super().__init__(optimizer)

    def factor(self, steps: int) -> float:
        """The learning rate as a share of max_lr."""
        top = self.warm_up * self.total_steps - 1
        last = self.total_steps - 1
        steps = min(steps, last)
        if steps <= top:
            return _cosine(self.start, 1.0, steps / top if top > 0 else 1.0)
        return _cosine(1.0, self.end, (steps - top) / (last - top))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


class ReduceLROnPlateau:
    """Multiply the learning rate by factor when a metric has not improved for more than `patience`
    epochs.

    Args:
        optimizer: whose learning rates change.
        mode: "min" for losses, "max" for accuracies. `pynn.fit` measures the one or the other: of
            validation where there is one, else of training.
        factor: below 1.
        patience: epochs without improvement that are tolerated.
        threshold: relative improvement that counts.
        min_lr: never below this.
    """

    per_batch = False

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        self.factor = real_number("factor", factor)
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must be between 0 and 1, got {factor}")
        self.optimizer, self.mode = _checked(optimizer), mode
        self.patience = whole_number("patience", patience, 0)
        self.threshold = real_number("threshold", threshold)
        self.min_lr = real_number("min_lr", min_lr)
        self.best: float | None = None
        self.waited = 0

    def step(self, metric: float | None = None) -> None:
        """Take the metric of an epoch into account."""
        if metric is None:
            raise ValueError("ReduceLROnPlateau.step needs the metric of the epoch")
        if self._improves(metric):
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.waited = 0
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)

    def _improves(self, metric: float) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        if self.mode == "min":
            return metric < self.best * (1 - self.threshold)
        return metric > self.best * (1 + self.threshold)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as plain numbers. The learning rates are the
        optimiser's state."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.best, self.waited = state["best"], int(state["waited"])


AnySchedule = Schedule | ReduceLROnPlateau
