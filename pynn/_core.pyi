# The compiled kernels. `pynn.reference` has the same functions by the same names and arguments, in
# NumPy. Every array argument is float32 or float64, all of one call alike, with any strides;
# results are new, C-contiguous arrays. DTypeError, ShapeError and LabelError say what does not fit.
# `needs` says which gradients are wanted: the others are None.
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[Any]
_Shape: TypeAlias = Sequence[int]
_Pair: TypeAlias = int | Sequence[int]
_Padding: TypeAlias = int | Sequence[int] | str

__version__: str

# Window geometry
# Each returns (y shape, stride (2), padding (top, bottom, left, right), and dilation or kernel size
# (2)).
def conv2d_geometry(
    x: _Shape,
    w: _Shape,
    b: _Shape | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]: ...
def pool2d_geometry(
    x: _Shape, kernel_size: _Pair, stride: _Pair | None, padding: _Padding, ceil_mode: bool
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]: ...

# Shape rules: the shape of y from the shapes of the inputs
def matmul_shape(a: _Shape, b: _Shape) -> tuple[int, ...]: ...
def linear_shape(x: _Shape, w: _Shape, b: _Shape | None) -> tuple[int, ...]: ...
def bias_shape(x: _Shape, b: _Shape) -> tuple[int, ...]: ...
def broadcast_shape(a: _Shape, b: _Shape) -> tuple[int, ...]: ...
def concat_shape(shapes: Sequence[_Shape], axis: int) -> tuple[int, ...]: ...
def flatten_shape(x: _Shape, start_axis: int) -> tuple[int, ...]: ...
def reshape_shape(x: _Shape, shape: _Shape) -> tuple[int, ...]: ...
def pad2d_shape(x: _Shape, padding: _Padding) -> tuple[int, ...]: ...
def global_avg_pool2d_shape(x: _Shape) -> tuple[int, ...]: ...
def softmax_shape(x: _Shape, axis: int) -> tuple[int, ...]: ...
def drop_block2d_shape(x: _Shape, p: float, block_size: int) -> tuple[int, ...]: ...
def batch_norm_shape(
    x: _Shape,
    running_mean: _Shape | None,
    running_var: _Shape | None,
    weight: _Shape | None,
    bias: _Shape | None,
    training: bool,
) -> tuple[int, ...]: ...

# Matrices and convolutions
def matmul(a: _Array, b: _Array) -> _Array: ...
def matmul_backward(
    dy: _Array, a: _Array, b: _Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[_Array | None, _Array | None]: ...
def linear(x: _Array, w: _Array, b: _Array | None) -> _Array: ...
def linear_backward(
    dy: _Array, x: _Array, w: _Array, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[_Array | None, _Array | None, _Array | None]: ...
def conv2d(
    x: _Array,
    w: _Array,
    b: _Array | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
) -> _Array: ...
def conv2d_backward(
    dy: _Array,
    x: _Array,
    w: _Array,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[_Array | None, _Array | None, _Array | None]: ...
def bias(x: _Array, b: _Array) -> _Array: ...
def bias_backward(
    dy: _Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[_Array | None, _Array | None]: ...

# Pooling
def max_pool2d(
    x: _Array, kernel_size: _Pair, stride: _Pair | None, padding: _Padding, ceil_mode: bool
) -> tuple[_Array, NDArray[np.int64]]: ...  # y and the flat index in H x W of each maximum
def max_pool2d_backward(dy: _Array, argmax: NDArray[np.int64], x_shape: _Shape) -> _Array: ...
def avg_pool2d(
    x: _Array,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> _Array: ...
def avg_pool2d_backward(
    dy: _Array,
    x_shape: _Shape,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    ceil_mode: bool,
    count_include_pad: bool,
) -> _Array: ...
def global_avg_pool2d(x: _Array) -> _Array: ...
def global_avg_pool2d_backward(dy: _Array, x_shape: _Shape) -> _Array: ...

# Activations
def relu(x: _Array) -> _Array: ...
def relu_backward(dy: _Array, y: _Array) -> _Array: ...
def leaky_relu(x: _Array, negative_slope: float) -> _Array: ...
def leaky_relu_backward(dy: _Array, x: _Array, negative_slope: float) -> _Array: ...
def tanh(x: _Array) -> _Array: ...
def tanh_backward(dy: _Array, y: _Array) -> _Array: ...
def sigmoid(x: _Array) -> _Array: ...
def sigmoid_backward(dy: _Array, y: _Array) -> _Array: ...
def softmax(x: _Array, axis: int) -> _Array: ...
def softmax_backward(dy: _Array, y: _Array, axis: int) -> _Array: ...
def log_softmax(x: _Array, axis: int) -> _Array: ...
def log_softmax_backward(dy: _Array, y: _Array, axis: int) -> _Array: ...

# Losses: a float for "mean" and "sum", an array for "none"; the gradient is None unless asked for
def cross_entropy(
    logits: _Array,
    target: NDArray[Any],
    weight: _Array | None,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: str,
    return_grad: bool,
) -> tuple[Any, _Array | None]: ...
def mse_loss(
    prediction: _Array, target: _Array, reduction: str, return_grad: bool
) -> tuple[Any, _Array | None]: ...

# Random: the mask is a function of (seed, step, node, sample, element) alone, so backward is
# forward applied to dy -------
def dropout(x: _Array, p: float, seed: int, step: int, node: int, first_sample: int) -> _Array: ...
def drop_block2d(
    x: _Array, p: float, block_size: int, seed: int, step: int, node: int, first_sample: int
) -> _Array: ...
def philox(
    seed: int, step: int, node: int, sample: int, count: int
) -> NDArray[np.uint32]: ...  # the first `count` words of one sample

# Normalisation: mean and var (biased) are those used, of the batch in training and the running ones
# otherwise ---------------
def batch_norm(
    x: _Array,
    running_mean: _Array | None,
    running_var: _Array | None,
    weight: _Array | None,
    bias: _Array | None,
    training: bool,
    eps: float,
) -> tuple[_Array, _Array, _Array]: ...
def batch_norm_backward(
    dy: _Array,
    x: _Array,
    mean: _Array,
    var: _Array,
    weight: _Array | None,
    training: bool,
    eps: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[_Array | None, _Array | None, _Array | None]: ...

# Shapes and arithmetic
def add(a: _Array, b: _Array) -> _Array: ...
def add_backward(
    dy: _Array, a_shape: _Shape, b_shape: _Shape, needs: tuple[bool, bool] = (True, True)
) -> tuple[_Array | None, _Array | None]: ...
def mul(a: _Array, b: _Array) -> _Array: ...
def mul_backward(
    dy: _Array, a: _Array, b: _Array, needs: tuple[bool, bool] = (True, True)
) -> tuple[_Array | None, _Array | None]: ...
def flatten(x: _Array, start_axis: int) -> _Array: ...
def reshape(x: _Array, shape: _Shape) -> _Array: ...
def concat(arrays: Sequence[_Array], axis: int) -> _Array: ...
def concat_backward(dy: _Array, sizes: Sequence[int], axis: int) -> list[_Array]: ...
def pad2d(x: _Array, padding: _Padding, value: float) -> _Array: ...
def pad2d_backward(dy: _Array, padding: _Padding) -> _Array: ...

# Optimisers: arrays (size,), p and the state updated in place
def sgd_update(
    p: _Array,
    g: _Array,
    velocity: _Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    averaged: bool,
    weight_decay: float,
) -> None: ...
def adam_update(
    p: _Array,
    g: _Array,
    m: _Array,
    v: _Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None: ...
def rmsprop_update(
    p: _Array,
    g: _Array,
    square: _Array,
    velocity: _Array | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None: ...
def sum_of_squares(g: _Array) -> float: ...

# The machine
def get_num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def get_winograd() -> bool: ...
def set_winograd(enabled: bool) -> None: ...
def config() -> dict[str, Any]: ...
def fma_loop(
    iterations: int, double_precision: bool
) -> int: ...  # on every thread; the number of operations done

# Libraries of operators (pynn/abi.h)
abi_version: int
host: object  # a capsule called "pynn._core.host": what operators of others are offered

def read_library(capsule: object, name: str) -> list[LibraryOperator]: ...

_Shapes: TypeAlias = Sequence[_Shape | None]
_Arrays: TypeAlias = Sequence[_Array | None]

class LibraryOperator:
    @property
    def name(self) -> str: ...
    @property
    def library(self) -> str: ...
    @property
    def doc(self) -> str: ...
    @property
    def inputs(
        self,
    ) -> list[tuple[str, str, bool, bool, bool]]: ...  # name, doc; optional, parameter, gradient
    @property
    def attributes(
        self,
    ) -> list[tuple[str, str, str, bool, Any]]: ...  # name, doc, type, required, default
    @property
    def samples(
        self,
    ) -> list[tuple[str, str, str, str, str]]: ...  # kind, name, shapes, attributes, message
    @property
    def pointwise(self) -> bool: ...
    @property
    def per_sample(self) -> bool: ...
    @property
    def random(self) -> bool: ...
    @property
    def differentiable(self) -> bool: ...
    @property
    def never_fails(self) -> bool: ...  # backward
    def complete(self, attributes: dict[str, Any]) -> dict[str, Any]: ...  # checked, with defaults
    def shape(self, shapes: _Shapes, attributes: dict[str, Any]) -> tuple[int, ...]: ...
    def flops(self, shapes: _Shapes, attributes: dict[str, Any]) -> int | None: ...
    def memory(
        self, shapes: _Shapes, is_double: bool, attributes: dict[str, Any]
    ) -> tuple[int, int, int]: ...  # bytes: saved, workspace of forward, of backward
    # random: step, node, first sample
    def forward(
        self,
        arrays: _Arrays,
        attributes: dict[str, Any],
        seed: int = 0,
        random: tuple[int, int, int] = (0, 0, 0),
    ) -> tuple[_Array, _Array | None]: ...  # y, and what backward needs beside the arrays
    def __call__(
        self,
        arrays: _Arrays,
        attributes: dict[str, Any],
        seed: int = 0,
        random: tuple[int, int, int] = (0, 0, 0),
    ) -> _Array: ...  # y
    def backward(
        self,
        dy: _Array,
        arrays: _Arrays,
        y: _Array | None,
        saved: _Array | None,
        needs: Sequence[bool],
        attributes: dict[str, Any],
        seed: int = 0,
        random: tuple[int, int, int] = (0, 0, 0),
    ) -> tuple[_Array | None, ...]: ...
    # The same into memory of the caller, for tests.
    def forward_into(
        self,
        arrays: _Arrays,
        y: _Array,
        saved: _Array | None,
        workspace: _Array | None,
        attributes: dict[str, Any],
        seed: int = 0,
        random: tuple[int, int, int] = (0, 0, 0),
    ) -> None: ...
    def backward_into(
        self,
        dy: _Array,
        arrays: _Arrays,
        y: _Array,
        saved: _Array | None,
        workspace: _Array | None,
        gradients: _Arrays,
        attributes: dict[str, Any],
        seed: int = 0,
        random: tuple[int, int, int] = (0, 0, 0),
    ) -> None: ...

# Plans: a graph compiled for one batch shape. Values go by their numbers, nodes by their places. A
# node that a plan does not know is foreign: its caller runs it, on arrays (N, ...).
class Plan:
    def __init__(
        self,
        is_double: bool,
        shapes: Sequence[_Shape],
        stored: Sequence[bool],  # parameters, buffers and constants
        needed: Sequence[bool],  # whose gradients are wanted; empty: no backward pass
        inputs: Sequence[int],
        # Name, inputs (-1: absent), output, attributes; of a library: operator, attributes, path of
        # the node, ordinal.
        nodes: Sequence[
            tuple[
                str,
                Sequence[int],
                int,
                dict[str, Any],
                tuple[LibraryOperator, dict[str, Any], str, int] | None,
            ]
        ],
        output: int,
        winograd: bool,  # whether convolutions may be computed by Winograd's filtering
    ) -> None: ...
    def start(self) -> Pass: ...
    @property
    def foreign(self) -> list[int]: ...
    @property
    def takes_labels(self) -> bool: ...  # whether a pass can have a loss of labels in it
    @property
    def may_fail(self) -> bool: ...  # backward, with some gradients written and others not
    def reached(self, value: int) -> bool: ...  # whether a gradient comes to it
    def gradient_written(self, node: int, input: int) -> bool: ...  # before a foreign node writes
    @property
    def bytes(self) -> int: ...
    # Of each node: what it does, the layout of its result, flops, backward flops, bytes.
    def report(self) -> list[tuple[str, str, int, int, int]]: ...

# The memory of one pass. Arrays are C-contiguous and of the plan's dtype; those that are set are
# read or written in place.
class Pass:
    def set_stored(self, value: int, array: _Array) -> None: ...
    def set_stream(self, seed: int, step: int, first_sample: int) -> None: ...
    def set_input(self, value: int, array: _Array) -> None: ...
    def set_gradient(self, value: int, array: _Array, accumulate: bool) -> None: ...
    # An update instead of a gradient: the parameter's data and state (None: without), which share
    # their group's settings: "sgd", "adam" or "rmsprop", and the arguments of its update.
    def set_update(self, value: int, group: int, arrays: list[_Array | None]) -> None: ...
    def set_settings(self, group: int, rule: str, *settings: float) -> None: ...
    def forward(self, node: int) -> int: ...  # runs from there to the next foreign node, or the end
    def backward(self, node: int) -> int: ...  # likewise, backward; -1 at the end
    # The same for a plan without foreign nodes, from its one input to its output. None where x is
    # not a plain array of the input's shape, or the number of threads has changed.
    def set_ends(self, input: int, output: int) -> None: ...
    def set_loss(self, label_smoothing: float, ignore_index: int | None, mean: bool) -> None: ...
    def forward_all(self, x: object) -> _Array | None: ...
    def backward_all(self, gradient: _Array, node: int) -> None: ...
    # The loss; None also where the target is not labels (N,).
    def step_on_labels(self, x: object, target: object) -> float | None: ...
    # The same for squared differences; None also where the target is no array of the plan's dtype.
    def step_on_values(self, x: object, target: object, mean: bool) -> float | None: ...
    def output(self) -> _Array: ...  # of the last such step whose loss was finite
    def release(self) -> None: ...  # the inputs: they are not read any more
    def read(self, value: int) -> _Array: ...
    def write(self, value: int, array: _Array) -> None: ...
    def read_gradient(self, value: int) -> _Array: ...
    def write_gradient(self, value: int, array: _Array, add: bool) -> None: ...
