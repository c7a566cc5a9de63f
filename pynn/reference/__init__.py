"""The operators in plain NumPy: what the compiled kernels must compute, by the same names.

Written to be read. What each function takes and returns is documented in `pynn.ops`.
"""

from pynn.reference.add import add, add_backward
from pynn.reference.avg_pool2d import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
)
from pynn.reference.batch_norm import batch_norm, batch_norm_backward
from pynn.reference.bias import bias, bias_backward
from pynn.reference.concat import concat, concat_backward
from pynn.reference.conv2d import conv2d, conv2d_backward
from pynn.reference.cross_entropy import cross_entropy
from pynn.reference.drop_block2d import drop_block2d
from pynn.reference.dropout import dropout
from pynn.reference.leaky_relu import leaky_relu, leaky_relu_backward
from pynn.reference.linear import linear, linear_backward
from pynn.reference.matmul import matmul, matmul_backward
from pynn.reference.max_pool2d import max_pool2d, max_pool2d_backward
from pynn.reference.mse_loss import mse_loss
from pynn.reference.mul import mul, mul_backward
from pynn.reference.optimizers import adam_update, rmsprop_update, sgd_update, sum_of_squares
from pynn.reference.pad2d import pad2d, pad2d_backward
from pynn.reference.philox import philox
from pynn.reference.relu import relu, relu_backward
from pynn.reference.reshape import flatten, reshape
from pynn.reference.sigmoid import sigmoid, sigmoid_backward
from pynn.reference.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from pynn.reference.tanh import tanh, tanh_backward

__all__ = [
    "adam_update",
    "add",
    "add_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "bias",
    "bias_backward",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "drop_block2d",
    "dropout",
    "flatten",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "matmul_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "mul",
    "mul_backward",
    "pad2d",
    "pad2d_backward",
    "philox",
    "relu",
    "relu_backward",
    "reshape",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "sum_of_squares",
    "tanh",
    "tanh_backward",
]
