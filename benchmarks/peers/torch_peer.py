"""PyTorch on the processor: eager as users write it, eager in channels_last, and compiled."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.workloads import Layer, OperatorCall, Workload

Call = Callable[[], Any]


def layer(kind: str, *sizes: int) -> torch.nn.Module:
    """One layer of a workload."""
    t = torch.nn
    if kind == "conv":
        c, o, k, stride, padding = sizes
        return t.Conv2d(c, o, k, stride=stride, padding=padding)
    if kind == "pool":
        return t.MaxPool2d(sizes[0], stride=sizes[1])
    if kind == "linear":
        return t.Linear(*sizes)
    plain = {"flatten": t.Flatten, "relu": t.ReLU, "tanh": t.Tanh, "sigmoid": t.Sigmoid}
    return plain[kind]()


def network(layers: tuple[Layer, ...]) -> torch.nn.Module:
    """The network of a workload."""
    return torch.nn.Sequential(*(layer(*sizes) for sizes in layers))


def _model(workload: Workload, threads: int) -> torch.nn.Module:
    torch.set_num_threads(threads)
    model = network(workload.layers)
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(values))
    return model


def _train(
    workload: Workload, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Call:
    model = _model(workload, threads)
    x, y = (torch.from_numpy(array) for array in workload.inputs())
    if channels_last and x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    loss = torch.nn.MSELoss() if workload.loss == "mse" else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.lr, momentum=workload.momentum)

    def forward_and_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(model(x), y)

    run = torch.compile(forward_and_loss) if compiled else forward_and_loss

    def step() -> float:
        optimizer.zero_grad()
        value = run(x, y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def train(workload: Workload, threads: int) -> Call:
    """As users write it: eager, NCHW."""
    return _train(workload, threads)


def train_channels_last(workload: Workload, threads: int) -> Call:
    """NHWC in memory; the same as eager where there are no images."""
    return _train(workload, threads, channels_last=True)


def train_compiled(workload: Workload, threads: int) -> Call:
    """Forward and backward through torch.compile."""
    return _train(workload, threads, compiled=True)


def infer(workload: Workload, threads: int) -> Call:
    """The model in evaluation mode, without gradients."""
    model = _model(workload, threads).eval()
    x = torch.from_numpy(workload.inputs()[0])

    def run() -> Any:
        with torch.inference_mode():
            return model(x).numpy()

    return run


def operate(call: OperatorCall, threads: int) -> Call:
    """One operator; backward gives the gradient of the first array, and computes all of them."""
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array) for array in call.arrays()]
    functional = torch.nn.functional
    attributes = dict(call.attributes)
    if call.operator in ("cross_entropy", "mse_loss"):
        labels = torch.from_numpy(call.labels())
        tensors = [tensors[0], labels if call.operator == "cross_entropy" else tensors[1]]
    if call.operator in ("softmax", "log_softmax"):
        attributes = {"dim": attributes["axis"]}
    function = getattr(functional, call.operator, None) or getattr(torch, call.operator)
    if call.operator == "batch_norm":

        def function(x: Any, weight: Any, bias: Any) -> Any:
            return functional.batch_norm(x, None, None, weight, bias, training=True)

    if not call.backward:

        def forward() -> Any:
            with torch.no_grad():
                return function(*tensors, **attributes).numpy()

        return forward
    for tensor in tensors:
        if tensor.is_floating_point() and (tensor is tensors[0] or call.operator != "mse_loss"):
            tensor.requires_grad_()
    inputs = [tensor for tensor in tensors if tensor.requires_grad]
    loss = call.operator in ("cross_entropy", "mse_loss")
    y = function(*tensors, **attributes)
    dy = torch.from_numpy(call.gradient(tuple(y.shape)))

    def backward() -> Any:
        if loss:  # the loss and its gradient, as pynn computes both in one pass
            value = function(*tensors, **attributes)
            return torch.autograd.grad(value, inputs)[0].numpy()
        return torch.autograd.grad(y, inputs, dy, retain_graph=True)[0].numpy()

    return backward
