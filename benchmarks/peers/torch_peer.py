"""PyTorch on the processor: eager as users write it, eager in channels_last, and compiled."""

from collections.abc import Callable

import torch

from benchmarks.workloads import Layer, Workload


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


def _step(
    workload: Workload, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Callable[[], float]:
    torch.set_num_threads(threads)
    model = network(workload.layers)
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), workload.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(values))
    x, y = (torch.from_numpy(array) for array in workload.inputs())
    if channels_last and x.ndim == 4:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
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


def eager(workload: Workload, threads: int) -> Callable[[], float]:
    """As users write it: NCHW."""
    return _step(workload, threads)


def channels_last(workload: Workload, threads: int) -> Callable[[], float]:
    """NHWC in memory; the same as eager where there are no images."""
    return _step(workload, threads, channels_last=True)


def compiled(workload: Workload, threads: int) -> Callable[[], float]:
    """Forward and backward through torch.compile."""
    return _step(workload, threads, compiled=True)
