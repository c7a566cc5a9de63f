"""Losses as objects: called on output and target they give the value; backward gives the gradient
of that call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pynn import ops
from pynn.arguments import share, whole_number
from pynn.errors import StateError
from pynn.executors.plan import LabelLoss, SquaredLoss
from pynn.graph import Array, plain_array, real_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Loss:
    """Base of all losses. A loss of your own defines `value_and_gradient`."""

    _gradient: Array | None = None

    def value_and_gradient(self, output: Array, target: Any) -> tuple[float, Array]:
        """The loss and its gradient with respect to output.

        Args:
            output: what the model gave, shape (N, ...).
            target: what it should have given.

        Returns:
            A float, and an array in the shape and dtype of output.
        """
        raise NotImplementedError(f"{type(self).__name__} must define value_and_gradient")

    def __call__(self, output: Array, target: Any) -> float:
        """The loss; its gradient is kept for `backward`."""
        value, self._gradient = self.value_and_gradient(output, target)
        return value

    def backward(self) -> Array:
        """The gradient of the last call with respect to output, in its shape.

        Raises:
            StateError: no call came before.
        """
        if self._gradient is None:
            raise StateError("backward of a loss needs a call first: value = loss(output, target)")
        return self._gradient

    def _computes_as(self, kind: type[Loss]) -> bool:
        own = type(self).value_and_gradient is kind.value_and_gradient
        return own and "value_and_gradient" not in self.__dict__

    def of_labels(self) -> LabelLoss | None:
        """What a plan needs to compute this loss of labels (N,) within a step; None where it must
        be called."""
        return None

    def of_values(self) -> SquaredLoss | None:
        """What a plan needs to compute this loss of a target of the output's shape within a step;
        None where it must be called."""
        return None

    def count(self, target: Any) -> float:
        """How much a batch weighs in the mean over several batches; the number of its samples."""
        return float(len(np.asarray(target)))


def _scalar_reduction(reduction: str) -> str:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"a loss that trains has reduction 'mean' or 'sum', got {reduction!r}")
    return reduction


class CrossEntropyLoss(Loss):
    """Softmax cross-entropy of logits (N, C, ...) and labels (N, ...) or probabilities; see
    `ops.cross_entropy`.

    Args:
        weight: one weight for each class, shape (C,).
        label_smoothing: share of each label that is spread over all classes.
        ignore_index: label of samples that do not count.
        reduction: "mean" or "sum".
    """

    _of_labels: LabelLoss | None = None

    def __init__(
        self,
        *,
        weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        self.weight = None if weight is None else real_array("weight", weight)
        self.label_smoothing = share("label_smoothing", label_smoothing)
        self.ignore_index = (
            None if ignore_index is None else whole_number("ignore_index", ignore_index)
        )
        self.reduction = _scalar_reduction(reduction)

    def value_and_gradient(self, output: Array, target: Any) -> tuple[float, Array]:
        """The loss and its gradient with respect to the logits; probabilities are converted to
        their dtype."""
        target = plain_array("target", target)
        if target.dtype.kind == "f":
            target = target.astype(output.dtype, copy=False)
        value, gradient = ops.cross_entropy(
            output, target,
            weight=None if self.weight is None else self.weight.astype(output.dtype),
            label_smoothing=self.label_smoothing, ignore_index=self.ignore_index,
            reduction=_scalar_reduction(self.reduction), return_grad=True,
        )  # fmt: skip
        return value, gradient

    def of_labels(self) -> LabelLoss | None:
        """See `Loss.of_labels`: where classes have no weights."""
        if self.weight is not None or not self._computes_as(CrossEntropyLoss):
            return None
        mean = self.reduction == "mean" or _scalar_reduction(self.reduction) == "mean"
        values = self.label_smoothing, self.ignore_index, mean
        if self._of_labels != values:
            self._of_labels = LabelLoss(*values)
        return self._of_labels

    def count(self, target: Any) -> float:
        """The weight of the samples that count."""
        labels = np.asarray(target)
        if labels.dtype.kind == "f":
            return float(len(labels))
        kept = labels[labels != self.ignore_index] if self.ignore_index is not None else labels
        return float(kept.size if self.weight is None else self.weight[kept].sum())


class MSELoss(Loss):
    """Mean squared error of a prediction and a target of the same shape; see `ops.mse_loss`.

    Args:
        reduction: "mean" over all elements, or "sum".
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = _scalar_reduction(reduction)

    def value_and_gradient(self, output: Array, target: Any) -> tuple[float, Array]:
        """The loss and its gradient with respect to the prediction; the target is converted to its
        dtype."""
        target = real_array("target", target).astype(output.dtype, copy=False)
        reduction = _scalar_reduction(self.reduction)
        value, gradient = ops.mse_loss(output, target, reduction=reduction, return_grad=True)
        return value, gradient

    def of_values(self) -> SquaredLoss | None:
        """See `Loss.of_values`."""
        if not self._computes_as(MSELoss):
            return None
        return SquaredLoss(_scalar_reduction(self.reduction) == "mean")
