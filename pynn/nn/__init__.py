"""Modules, layers, losses, and the operators under their short names."""

from pynn.nn.containers import ModuleList, Sequential
from pynn.nn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Bias,
    Conv2d,
    DropBlock2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool2d,
    Pad2d,
    ReLU,
    Reshape,
    Sigmoid,
    Softmax,
    Tanh,
)
from pynn.nn.losses import CrossEntropyLoss, Loss, MSELoss
from pynn.nn.module import Module
from pynn.nn.parameter import Buffer, Parameter
from pynn.nn.summary import Summary, summary
from pynn.ops import (
    avg_pool2d,
    concat,
    flatten,
    global_avg_pool2d,
    leaky_relu,
    log_softmax,
    matmul,
    max_pool2d,
    pad2d,
    relu,
    reshape,
    sigmoid,
    softmax,
    tanh,
)

__all__ = [
    "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Bias", "Buffer", "Conv2d", "CrossEntropyLoss",
    "DropBlock2d", "Dropout", "Flatten", "GlobalAvgPool2d", "Identity", "LeakyReLU", "Linear",
    "LogSoftmax", "Loss", "MSELoss", "MaxPool2d", "Module", "ModuleList", "Pad2d", "Parameter",
    "ReLU", "Reshape", "Sequential", "Sigmoid", "Softmax", "Summary", "Tanh", "avg_pool2d",
    "concat", "flatten", "global_avg_pool2d",
    "leaky_relu", "log_softmax", "matmul", "max_pool2d", "pad2d",
    "relu", "reshape", "sigmoid", "softmax", "summary", "tanh",
]  # fmt: skip
