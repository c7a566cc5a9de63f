"""Cross-entropy of logits (N, C, *D) against labels (N, *D) or probabilities (N, C, *D).

Labels are probabilities of 0 and 1. Smoothing and class weights turn them into one coefficient q
for each class of each position: loss = -sum_c q_c log p_c, with p the softmax over the classes, and
d loss / d logits = p sum_c q_c - q. Classes outside of that sum (`used` is False) count for nothing
even where log p is not finite. The formulas are PyTorch's; everything is computed in float64.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.reference.arrays import Array, dense, dense_as, optional_dense_as, require_shape, silent
from pynn.reference.losses import check_reduction, reduced
from pynn.reference.softmax import shifted, total

_PROBABILITIES = "; floating targets are probabilities, class labels must be integers"


def _holds_labels(target: object) -> bool:
    what = "of integers, or of probabilities of the dtype of logits, got"
    if not isinstance(target, np.ndarray):
        raise DTypeError(f"target must be a NumPy array {what} {type(target).__name__}")
    if target.dtype.kind == "f":
        return False
    if target.dtype.kind not in "iu":
        raise DTypeError(f"target must be an array {what} dtype {target.dtype}")
    if hasattr(target, "mask"):
        raise DTypeError(
            "target must not be a masked array; fill it first, with target.filled(value)"
        )
    return True


def _check_labels(target: NDArray[Any], kept: NDArray[np.bool_], classes: int) -> None:
    outside = np.flatnonzero(kept & ((target < 0) | (target >= classes)))
    if outside.size:
        index = np.unravel_index(outside[0], target.shape)
        place = f"index {tuple(int(i) for i in index)}" if target.ndim > 1 else f"row {outside[0]}"
        raise LabelError(f"label {int(target[index])} at {place} is outside 0..{classes - 1}")


@silent
def cross_entropy(
    logits: Array,
    target: NDArray[Any],
    weight: Array | None,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: str,
    return_grad: bool,
) -> tuple[Any, Array | None]:
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing:g}")
    logits = dense("logits", logits)
    if logits.ndim < 2:
        raise ShapeError(f"logits must have shape (N, C) or (N, C, ...), got {logits.shape}")
    classes, positions = logits.shape[1], (logits.shape[0], *logits.shape[2:])
    column = (classes, *(1,) * (logits.ndim - 2))  # broadcasts against logits
    weight = optional_dense_as("weight", weight, logits)
    if weight is None:
        class_weight = np.ones(column)
    else:
        require_shape("weight", weight, (classes,))
        class_weight = weight.astype(np.float64).reshape(column)

    labels = _holds_labels(target)
    if not labels:
        target = dense_as("target", target, logits)
    expected = positions if labels else logits.shape
    if target.shape != expected:
        raise ShapeError(
            f"target must have shape {expected} for logits of shape {logits.shape}, "
            f"got {target.shape}" + ("" if labels else _PROBABILITIES)
        )
    if labels:
        kept = np.ones(positions, np.bool_) if ignore_index is None else target != ignore_index
        _check_labels(target, kept, classes)
        kept = np.expand_dims(kept, 1)
        target = (np.arange(classes).reshape(column) == np.expand_dims(target, 1)) & kept
        used = np.broadcast_to(kept, logits.shape) if label_smoothing > 0 else target
        normaliser = np.sum(np.broadcast_to(class_weight, logits.shape), where=target)
    else:
        if ignore_index is not None:
            raise ValueError("ignore_index is for integer labels; target holds probabilities")
        kept = used = np.ones(logits.shape, np.bool_)
        normaliser = math.prod(positions)
    smoothed = target * (1 - label_smoothing) + label_smoothing / max(classes, 1)
    q = np.where(used, smoothed * class_weight, 0)

    z = shifted(logits.astype(np.float64), axis=1)
    p_total = total(np.exp(z), axis=1)
    losses = -np.sum(q * (z - np.log(p_total)), axis=1, where=used)
    gradient = np.where(kept, np.exp(z) / p_total * total(q, axis=1) - q, 0)
    loss, gradient = reduced(losses, gradient, float(normaliser), reduction, like=logits)
    return loss, gradient if return_grad else None
