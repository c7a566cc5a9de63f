"""Cross-entropy of logits (N, C, *D) against labels (N, *D) or probabilities (N, C, *D).

Both targets, class weights, label smoothing and ignored labels come down to one coefficient q for
each class of each position: loss = -sum_c q_c log p_c, with p the softmax over the classes, and
d loss / d logits = p sum_c q_c - q. Classes that are not in that sum (`used` is False) count for
nothing even where log p is not finite. The formulas are PyTorch's; everything is computed in
float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.reference.arrays import Array, dense, dense_as, optional_dense_as, require_shape, silent
from pynn.reference.losses import check_reduction, reduced
from pynn.reference.softmax import shifted, total


def _check_target_shape(logits: Array, target: NDArray[Any], expected: tuple[int, ...]) -> None:
    if target.shape != expected:
        raise ShapeError(
            f"target must have shape {expected} for logits of shape {logits.shape}, "
            f"got {target.shape}"
        )


def _check_labels(target: NDArray[Any], kept: NDArray[np.bool_], classes: int) -> None:
    outside = np.flatnonzero(kept & ((target < 0) | (target >= classes)))
    if outside.size:
        index = np.unravel_index(outside[0], target.shape)
        place = f"index {tuple(int(i) for i in index)}" if target.ndim > 1 else f"row {outside[0]}"
        raise LabelError(f"label {int(target[index])} at {place} is outside 0..{classes - 1}")


def _coefficients_of_labels(
    target: NDArray[Any], kept: NDArray[np.bool_], weight: Array, label_smoothing: float
) -> tuple[Array, NDArray[np.bool_], float]:
    """Return q and used, both (N, C, *D), and the sum of the weights of the labels."""
    classes = weight.size
    label = np.where(kept, target, 0).astype(np.int64)
    label_weight = np.where(kept, weight[label], 0)
    is_label = np.arange(classes).reshape(-1, *(1,) * (label.ndim - 1)) == label[:, None]
    weight_by_class = weight.reshape(-1, *(1,) * (label.ndim - 1))
    q = (1 - label_smoothing) * is_label * label_weight[:, None]
    q += label_smoothing / classes * weight_by_class
    used = (is_label | (label_smoothing > 0)) & kept[:, None]
    return q * used, used, float(np.sum(label_weight))


def _coefficients_of_probabilities(
    target: Array, weight: Array, label_smoothing: float
) -> tuple[Array, NDArray[np.bool_], float]:
    """Return q and used, both (N, C, *D), and the number of positions."""
    classes = weight.size
    weight_by_class = weight.reshape(-1, *(1,) * (target.ndim - 2))
    q = (target * (1 - label_smoothing) + label_smoothing / classes) * weight_by_class
    return q, np.ones(q.shape, np.bool_), target.size / classes


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
    logits = dense("logits", logits)
    weight = optional_dense_as("weight", weight, logits)
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in 0..1, got {label_smoothing}")
    if logits.ndim < 2:
        raise ShapeError(f"expected logits of shape (N, C, ...), got shape {logits.shape}")
    classes = logits.shape[1]
    if weight is not None:
        require_shape("weight", weight, (classes,))
    class_weight = np.ones(classes) if weight is None else weight.astype(np.float64)

    if not isinstance(target, np.ndarray):
        raise DTypeError(f"target must be a NumPy array, got {type(target).__name__}")
    if np.issubdtype(target.dtype, np.integer):
        _check_target_shape(logits, target, (logits.shape[0], *logits.shape[2:]))
        kept = np.ones(target.shape, np.bool_) if ignore_index is None else target != ignore_index
        _check_labels(target, kept, classes)
        q, used, normaliser = _coefficients_of_labels(target, kept, class_weight, label_smoothing)
    else:
        target = dense_as("target", target, logits)
        _check_target_shape(logits, target, logits.shape)
        if ignore_index is not None:
            raise ValueError("ignore_index needs integer labels, got probabilities")
        q, used, normaliser = _coefficients_of_probabilities(target, class_weight, label_smoothing)

    z = shifted(logits.astype(np.float64), axis=1)
    p_total = total(np.exp(z), axis=1)
    losses = -np.sum(q * (z - np.log(p_total)), axis=1, where=used)
    gradient = np.exp(z) / p_total * total(q, axis=1) - q
    gradient = np.where(used.any(axis=1, keepdims=True), gradient, 0)
    loss, gradient = reduced(losses, gradient, normaliser, reduction, like=logits)
    return loss, gradient if return_grad else None
