# The compiled kernels. `pynn.reference` has the same functions by the same names and arguments, in
# NumPy. Every array argument is float32 or float64, all of one call alike, with any strides;
# results are new, C-contiguous arrays. DTypeError, ShapeError and LabelError say what does not fit.
# `needs` says which gradients are wanted: the others are None.
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = Sequence[int]
Pair: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | str
Reduction: TypeAlias = Literal["mean", "sum", "none"]

__version__: str

# Window geometry
# Each returns (y shape, stride (2), padding (top, bottom, left, right), and dilation or kernel size
# (2)).
def conv2d_geometry(
    x: Shape, w: Shape, b: Shape | None, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]: ...
def pool2d_geometry(
    x: Shape, kernel_size: Pair, stride: Pair | None, padding: Padding, ceil_mode: bool
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]: ...

# Shape rules: the shape of y from the shapes of the inputs
def matmul_shape(a: Shape, b: Shape) -> tuple[int, ...]: ...
def linear_shape(x: Shape, w: Shape, b: Shape | None) -> tuple[int, ...]: ...
def bias_shape(x: Shape, b: Shape) -> tuple[int, ...]: ...
def broadcast_shape(a: Shape, b: Shape) -> tuple[int, ...]: ...
def concat_shape(shapes: Sequence[Shape], axis: int) -> tuple[int, ...]: ...
def flatten_shape(x: Shape, start_axis: int) -> tuple[int, ...]: ...
def reshape_shape(x: Shape, shape: Shape) -> tuple[int, ...]: ...
def pad2d_shape(x: Shape, padding: Padding) -> tuple[int, ...]: ...
def global_avg_pool2d_shape(x: Shape) -> tuple[int, ...]: ...
def softmax_shape(x: Shape, axis: int) -> tuple[int, ...]: ...
def drop_block2d_shape(x: Shape, p: float, block_size: int) -> tuple[int, ...]: ...
def batch_norm_shape(
    x: Shape,
    running_mean: Shape | None,
    running_var: Shape | None,
    weight: Shape | None,
    bias: Shape | None,
    training: bool,
) -> tuple[int, ...]: ...

# Matrices and convolutions
def matmul(a: Array, b: Array) -> Array: ...
def matmul_backward(
    dy: Array, a: Array, b: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]: ...
def linear(x: Array, w: Array, b: Array | None) -> Array: ...
def linear_backward(
    dy: Array, x: Array, w: Array, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Array | None, Array | None, Array | None]: ...
def conv2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array: ...
def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]: ...
def bias(x: Array, b: Array) -> Array: ...
def bias_backward(
    dy: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]: ...

# Pooling
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Padding, ceil_mode: bool
) -> tuple[Array, NDArray[np.int64]]: ...  # y and the flat index in H x W of each maximum
def max_pool2d_backward(dy: Array, argmax: NDArray[np.int64], x_shape: Shape) -> Array: ...
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array: ...
def avg_pool2d_backward(
    dy: Array,
    x_shape: Shape,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array: ...
def global_avg_pool2d(x: Array) -> Array: ...
def global_avg_pool2d_backward(dy: Array, x_shape: Shape) -> Array: ...

# Activations
def relu(x: Array) -> Array: ...
def relu_backward(dy: Array, y: Array) -> Array: ...
def leaky_relu(x: Array, negative_slope: float) -> Array: ...
def leaky_relu_backward(dy: Array, x: Array, negative_slope: float) -> Array: ...
def tanh(x: Array) -> Array: ...
def tanh_backward(dy: Array, y: Array) -> Array: ...
def sigmoid(x: Array) -> Array: ...
def sigmoid_backward(dy: Array, y: Array) -> Array: ...
def softmax(x: Array, axis: int) -> Array: ...
def softmax_backward(dy: Array, y: Array, axis: int) -> Array: ...
def log_softmax(x: Array, axis: int) -> Array: ...
def log_softmax_backward(dy: Array, y: Array, axis: int) -> Array: ...

# Losses: a float for "mean" and "sum", an array for "none"; the gradient is None unless asked for
def cross_entropy(
    logits: Array,
    target: NDArray[Any],
    weight: Array | None,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: str,
    return_grad: bool,
) -> tuple[Any, Array | None]: ...
def mse_loss(
    prediction: Array, target: Array, reduction: str, return_grad: bool
) -> tuple[Any, Array | None]: ...

# Random: the mask is a function of (seed, step, node, sample, element) alone, so backward is
# forward applied to dy -------
def dropout(x: Array, p: float, seed: int, step: int, node: int, first_sample: int) -> Array: ...
def drop_block2d(
    x: Array, p: float, block_size: int, seed: int, step: int, node: int, first_sample: int
) -> Array: ...
def philox(
    seed: int, step: int, node: int, sample: int, count: int
) -> NDArray[np.uint32]: ...  # the first `count` words of one sample

# Normalisation: mean and var (biased) are those used, of the batch in training and the running ones
# otherwise ---------------
def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    eps: float,
) -> tuple[Array, Array, Array]: ...
def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    training: bool,
    eps: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]: ...

# Shapes and arithmetic
def add(a: Array, b: Array) -> Array: ...
def add_backward(
    dy: Array, a_shape: Shape, b_shape: Shape, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]: ...
def mul(a: Array, b: Array) -> Array: ...
def mul_backward(
    dy: Array, a: Array, b: Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[Array | None, Array | None]: ...
def flatten(x: Array, start_axis: int) -> Array: ...
def reshape(x: Array, shape: Shape) -> Array: ...
def concat(arrays: Sequence[Array], axis: int) -> Array: ...
def concat_backward(dy: Array, sizes: Sequence[int], axis: int) -> list[Array]: ...
def pad2d(x: Array, padding: Padding, value: float) -> Array: ...
def pad2d_backward(dy: Array, padding: Padding) -> Array: ...

# Optimisers: arrays (size,), p and the state updated in place
def sgd_update(
    p: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    averaged: bool,
    weight_decay: float,
) -> None: ...
def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None: ...
def rmsprop_update(
    p: Array,
    g: Array,
    square: Array,
    velocity: Array | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None: ...
def sum_of_squares(g: Array) -> float: ...

# The machine
def get_num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def config() -> dict[str, Any]: ...
def fma_loop(
    iterations: int, double_precision: bool
) -> int: ...  # on every thread; the number of operations done
