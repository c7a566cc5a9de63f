"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pynn.arguments import share
from pynn.optim.optimizer import Optimizer, Parameters


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum in either of its two forms.

    With g the gradient plus weight_decay times the parameter p:

    * momentum 0: p -= lr g.
    * "sum" (PyTorch's; Polyak 1964): v = momentum v + g; p -= lr v.
    * "average": v = momentum v + (1 - momentum) g; p -= lr v.
    * nesterov: the step is taken with momentum v + g (or (1 - momentum) g) in place of v.

    Args:
        parameters: `model.parameters()`, or a list of groups.
        lr: learning rate.
        momentum: share of the old velocity, 0 ... 1.
        momentum_form: "sum" or "average".
        nesterov: look ahead; needs momentum.
        weight_decay: added to the gradient as weight_decay times the parameter.
        clip_norm, clip_value: see `Optimizer`.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 0.01,
        momentum: float = 0.0,
        *,
        momentum_form: str = "sum",
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "momentum_form": momentum_form,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }
        super().__init__(parameters, defaults, clip_norm=clip_norm, clip_value=clip_value)

    _rule = "sgd"
    _counts_updates = False

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        share("momentum", group["momentum"])
        if group["momentum_form"] not in ("sum", "average"):
            raise ValueError(
                f"momentum_form must be 'sum' or 'average', got {group['momentum_form']!r}"
            )
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("nesterov needs a momentum above 0")

    def _slot_names(self, group: Mapping[str, Any]) -> Sequence[str | None]:
        return ("velocity" if group["momentum"] else None,)

    def _settings(self, group: Mapping[str, Any], steps: int) -> tuple[Any, ...]:
        return (
            group["lr"], group["momentum"], group["nesterov"], group["momentum_form"] == "average",
            group["weight_decay"],
        )  # fmt: skip
