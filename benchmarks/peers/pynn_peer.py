"""pynn: native kernels, and its NumPy reference."""

from collections.abc import Callable
from typing import Any

import pynn
from benchmarks.workloads import Layer, OperatorCall, Workload
from pynn import _core, nn, ops, optim

Call = Callable[[], Any]


def layer(kind: str, *sizes: int) -> nn.Module:
    """One layer of a workload."""
    if kind == "conv":
        c, o, k, stride, padding = sizes
        return nn.Conv2d(c, o, k, stride=stride, padding=padding)
    if kind == "pool":
        return nn.MaxPool2d(sizes[0], stride=sizes[1])
    if kind == "linear":
        return nn.Linear(*sizes)
    plain = {"flatten": nn.Flatten, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    return plain[kind]()


def network(layers: tuple[Layer, ...]) -> nn.Module:
    """The network of a workload."""
    return nn.Sequential(*(layer(*sizes) for sizes in layers))


def _model(workload: Workload, threads: int) -> nn.Module:
    pynn.set_num_threads(threads)
    model = network(workload.layers)
    for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
        parameter.data = values
    return model


def train(workload: Workload, threads: int) -> Call:
    """A compiled step; gives the loss before the update."""
    model = _model(workload, threads)
    loss = nn.MSELoss() if workload.loss == "mse" else nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=workload.lr, momentum=workload.momentum)
    step = pynn.compile(model, loss, optimizer)
    x, y = workload.inputs()
    return lambda: step(x, y)


def infer(workload: Workload, threads: int) -> Call:
    """The model in evaluation mode; gives its output."""
    model = _model(workload, threads).eval()
    x, _ = workload.inputs()
    return lambda: model(x)


def _on_numpy(call: Call) -> Call:
    def run() -> Any:
        with pynn.backend("numpy"):
            return call()

    return run


def train_reference(workload: Workload, threads: int) -> Call:
    """The same step on the NumPy kernels."""
    return _on_numpy(train(workload, threads))


def infer_reference(workload: Workload, threads: int) -> Call:
    """The same inference on the NumPy kernels."""
    return _on_numpy(infer(workload, threads))


def operate(call: OperatorCall, threads: int) -> Call:
    """One operator; backward gives the gradient of the first array, and computes all of them."""
    pynn.set_num_threads(threads)
    arrays = call.arrays()
    forward, attributes = getattr(ops, call.operator), call.attributes
    if call.operator in ("cross_entropy", "mse_loss"):
        target: Any = arrays[-1] if call.operator == "mse_loss" else call.labels()
        if call.backward:  # forward and backward are one pass
            return lambda: forward(arrays[0], target, return_grad=True)[1]
        return lambda: forward(arrays[0], target)
    if call.operator == "batch_norm":
        x, weight, bias = arrays
        if not call.backward:
            return lambda: ops.batch_norm(x, None, None, weight, bias, training=True)
        y, mean, var = _core.batch_norm(x, None, None, weight, bias, True, 1e-5)
        dy = call.gradient(y.shape)
        return lambda: ops.batch_norm_backward(dy, x, mean, var, weight, training=True)[0]
    if not call.backward:
        return lambda: forward(*arrays, **attributes)
    y = forward(*arrays, **attributes)
    return _backward(call, arrays, y)


def _backward(call: OperatorCall, arrays: list[Any], y: Any) -> Call:
    x, attributes = arrays[0], call.attributes
    dy = call.gradient(y.shape)
    if call.operator == "conv2d":
        return lambda: ops.conv2d_backward(dy, x, arrays[1], **attributes)[0]
    if call.operator == "add":
        return lambda: ops.add_backward(dy, x.shape, arrays[1].shape)[0]
    if call.operator == "linear":
        return lambda: ops.linear_backward(dy, x, arrays[1])[0]
    if call.operator == "max_pool2d":
        _, indices = ops.max_pool2d(x, **attributes, return_indices=True)
        return lambda: ops.max_pool2d_backward(dy, indices, x.shape)
    if call.operator == "avg_pool2d":
        return lambda: ops.avg_pool2d_backward(dy, x.shape, **attributes)
    backward = getattr(ops, f"{call.operator}_backward")
    return lambda: backward(dy, y, **attributes)
