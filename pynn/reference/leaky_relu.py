"""x where it is positive, else negative_slope * x."""

import numpy as np

from pynn.reference.arrays import Array, dense, dense_as, require_shape, result, silent


@silent
def leaky_relu(x: Array, negative_slope: float) -> Array:
    x = dense("x", x)
    return result(np.where(x < 0, x * float(negative_slope), x), x)


@silent
def leaky_relu_backward(dy: Array, x: Array, negative_slope: float) -> Array:
    x = dense("x", x)
    dy = dense_as("dy", dy, x)
    require_shape("dy", dy, x.shape)
    return result(np.where(x > 0, dy, dy * float(negative_slope)), x)
