"""Losses. They take arrays: in training, give the loss to `pynn.compile`, or call its layer on the
model's output."""

from __future__ import annotations

from typing import Any

from pynn.backends import kernels
from pynn.graph import Array, Operator, Variable, register


def cross_entropy(
    logits: Array,
    target: Any,
    *,
    weight: Array | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
) -> Any:
    """Softmax cross-entropy: -log of the share that softmax gives to the right class.

    Args:
        logits: shape (N, C), or (N, C, ...), float32 or float64.
        target: class labels, shape (N,), or (N, ...), of any integer dtype; or probabilities in the
            shape and dtype of logits.
        weight: one weight for each class, shape (C,); the mean is then the weighted mean, as
            PyTorch has it.
        label_smoothing: share of each label that is spread evenly over all classes, 0 ... 1.
        ignore_index: label of samples that do not count; a mean over none is 0.
        reduction: "mean", "sum", or "none" for one loss for each sample.
        return_grad: also return the gradient with respect to logits.

    Returns:
        The loss, a float, or an array (N,), or (N, ...), for "none"; with return_grad, (loss,
        dlogits). For "none", dlogits is the gradient of the sum.

    Raises:
        LabelError: a label is not in 0 ... C - 1; the message names the first such row.
        ShapeError: target or weight has the wrong shape. Nothing broadcasts.
        DTypeError: the dtypes do not fit.
    """
    _refuse_symbols("cross_entropy", logits, target)
    loss, gradient = kernels().cross_entropy(
        logits, target, weight, label_smoothing, ignore_index, reduction, return_grad
    )
    return (loss, gradient) if return_grad else loss


def mse_loss(
    prediction: Array, target: Array, *, reduction: str = "mean", return_grad: bool = False
) -> Any:
    """Mean squared error.

    Args:
        prediction: any shape, float32 or float64.
        target: same shape and dtype; nothing broadcasts.
        reduction: "mean" over all elements, "sum", or "none" for the squared differences.
        return_grad: also return the gradient with respect to prediction.

    Returns:
        The loss, a float, or an array for "none"; with return_grad, (loss, dprediction).

    Raises:
        ShapeError: the shapes differ.
    """
    _refuse_symbols("mse_loss", prediction, target)
    loss, gradient = kernels().mse_loss(prediction, target, reduction, return_grad)
    return (loss, gradient) if return_grad else loss


def _refuse_symbols(name: str, *operands: object) -> None:
    if any(isinstance(operand, Variable) for operand in operands):
        raise TypeError(
            f"{name} is not part of forward: return the model's output and give the loss to "
            "pynn.compile"
        )


def _recorded(*operands: Any, **attributes: Any) -> Any:
    raise TypeError("losses are not nodes of a graph")


for _name in ("cross_entropy", "mse_loss"):
    register(
        Operator(_name, shape=_recorded, forward=_recorded, backward=_recorded, mixes_samples=True)
    )
