"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pynn.arguments import not_negative, share
from pynn.optim.optimizer import Optimizer, Parameters


class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012), eps outside the square root, as PyTorch has it.

    s = alpha s + (1 - alpha) g^2; d = g / (sqrt(s) + eps); p -= lr d, or with momentum v = momentum
    v + d; p -= lr v.

    Args:
        parameters: `model.parameters()`, or a list of groups.
        lr: learning rate.
        alpha: share of the old mean square.
        eps: keeps the division finite.
        momentum: share of the old velocity.
        weight_decay: added to the gradient as weight_decay times the parameter.
        clip_norm, clip_value: see `Optimizer`.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__(parameters, defaults, clip_norm=clip_norm, clip_value=clip_value)

    _rule = "rmsprop"
    _counts_updates = False

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        share("alpha", group["alpha"])
        share("momentum", group["momentum"])
        not_negative("eps", group["eps"])

    def _slot_names(self, group: Mapping[str, Any]) -> Sequence[str | None]:
        return ("square", "velocity" if group["momentum"] else None)

    def _settings(self, group: Mapping[str, Any], steps: int) -> tuple[Any, ...]:
        return (
            group["lr"], group["alpha"], group["eps"], group["momentum"], group["weight_decay"]
        )  # fmt: skip
