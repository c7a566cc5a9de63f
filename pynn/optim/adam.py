"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pynn.arguments import not_negative, real_number, several
from pynn.optim.optimizer import Optimizer, Parameters


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015), bias-corrected, eps outside the square root.

    With m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2:

    * "corrected" (PyTorch's): p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
    * "uncorrected" (the paper's faster form, at the end of its section 2; Keras's and Lasagne's):
      p -= lr m sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps). In the first steps the same eps
      weighs up to 1 / sqrt(1 - b2) times more.

    Args:
        parameters: `model.parameters()`, or a list of groups.
        lr: learning rate.
        betas: b1 and b2.
        eps: keeps the division finite.
        eps_form: "corrected" or "uncorrected": to which root eps is added.
        weight_decay: added to the gradient as weight_decay times the parameter.
        clip_norm, clip_value: see `Optimizer`.
    """

    _rule = "adam"
    _decoupled = False

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        eps_form: str = "corrected",
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "betas": tuple(several("betas", betas)), "eps": eps, "eps_form": eps_form,
            "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(parameters, defaults, clip_norm=clip_norm, clip_value=clip_value)

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        betas = [real_number("each of betas", beta) for beta in several("betas", group["betas"])]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"betas must be two numbers in 0 ... 1, 1 excluded, got {group['betas']}"
            )
        not_negative("eps", group["eps"])
        if group["eps_form"] not in ("corrected", "uncorrected"):
            raise ValueError(
                f"eps_form must be 'corrected' or 'uncorrected', got {group['eps_form']!r}"
            )

    def _slot_names(self, group: Mapping[str, Any]) -> Sequence[str | None]:
        return ("mean", "square")

    def _settings(self, group: Mapping[str, Any], steps: int) -> tuple[Any, ...]:
        beta1, beta2 = group["betas"]
        eps = group["eps"]
        if group["eps_form"] == "uncorrected":
            eps /= math.sqrt(1 - beta2**steps)  # the same, beside the corrected root
        return steps, group["lr"], beta1, beta2, eps, group["weight_decay"], self._decoupled


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019): first p *= 1 - lr weight_decay,
    then Adam without it.

    Args:
        parameters, lr, betas, eps, eps_form, clip_norm, clip_value: as for `Adam`.
        weight_decay: PyTorch's default, 0.01.
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        eps_form: str = "corrected",
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            parameters, lr, betas, eps, eps_form=eps_form,
            weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value,
        )  # fmt: skip
