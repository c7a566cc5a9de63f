"""Every operator as a function: on NumPy arrays it computes; on symbols, in a forward method, it
records a node.

Operators never cast: all arrays of a call are float32 or all are float64. Results are new arrays.
"""

from collections.abc import Callable
from typing import Any

from pynn.ops.activation import (
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from pynn.ops.arithmetic import add, add_backward, mul, mul_backward
from pynn.ops.conv import conv2d, conv2d_backward
from pynn.ops.dropout import drop_block2d, drop_block2d_backward, dropout, dropout_backward
from pynn.ops.loss import cross_entropy, mse_loss
from pynn.ops.matrix import bias, bias_backward, linear, linear_backward, matmul, matmul_backward
from pynn.ops.norm import batch_norm, batch_norm_backward
from pynn.ops.pool import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from pynn.ops.python import REGISTERED as _REGISTERED
from pynn.ops.python import register, unregister
from pynn.ops.shape import concat, concat_backward, flatten, pad2d, pad2d_backward, reshape

__all__ = [
    "add", "add_backward", "avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward",
    "bias", "bias_backward", "concat", "concat_backward", "conv2d", "conv2d_backward",
    "cross_entropy", "drop_block2d", "drop_block2d_backward", "dropout", "dropout_backward",
    "flatten", "global_avg_pool2d", "global_avg_pool2d_backward", "leaky_relu",
    "leaky_relu_backward", "linear", "linear_backward", "log_softmax", "log_softmax_backward",
    "matmul", "matmul_backward", "max_pool2d", "max_pool2d_backward", "mse_loss", "mul",
    "mul_backward", "pad2d", "pad2d_backward", "register", "relu", "relu_backward", "reshape",
    "sigmoid", "sigmoid_backward", "softmax", "softmax_backward", "tanh", "tanh_backward",
    "unregister",
]  # fmt: skip


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return _REGISTERED[name]
    except KeyError:
        raise AttributeError(
            f"pynn.ops has no operator {name!r}; one of another package or library is there when "
            "that has been imported or loaded"
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *_REGISTERED})
