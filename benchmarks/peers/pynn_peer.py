"""pynn, native kernels."""

from collections.abc import Callable

import pynn
from benchmarks.workloads import Layer, Workload
from pynn import nn, optim


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


def native(workload: Workload, threads: int) -> Callable[[], float]:
    """A compiled step."""
    pynn.set_num_threads(threads)
    model = network(workload.layers)
    for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
        parameter.data = values
    loss = nn.MSELoss() if workload.loss == "mse" else nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=workload.lr, momentum=workload.momentum)
    step = pynn.compile(model, loss, optimizer)
    x, y = workload.inputs()
    return lambda: step(x, y)


def reference(workload: Workload, threads: int) -> Callable[[], float]:
    """The same step on the NumPy kernels."""
    step = native(workload, threads)

    def run() -> float:
        with pynn.backend("numpy"):
            return step()

    return run
