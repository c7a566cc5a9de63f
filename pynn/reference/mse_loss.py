"""The mean of the squared differences of prediction and target."""

from typing import Any

import numpy as np

from pynn.errors import ShapeError
from pynn.reference.arrays import Array, dense, dense_as, silent
from pynn.reference.losses import check_reduction, reduced


@silent
def mse_loss(
    prediction: Array, target: Array, reduction: str, return_grad: bool
) -> tuple[Any, Array | None]:
    check_reduction(reduction)
    prediction = dense("prediction", prediction)
    target = dense_as("target", target, prediction)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"target must have the shape of prediction, {prediction.shape}, got {target.shape}"
        )
    difference = prediction.astype(np.float64) - target
    loss, gradient = reduced(
        difference**2, 2 * difference, prediction.size, reduction, like=prediction
    )
    return loss, gradient if return_grad else None
