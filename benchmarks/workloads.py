"""The networks that are timed, said once for all peers.

A network is a list of layers, each a tuple: ("conv", in, out, kernel, stride, padding),
("pool", kernel, stride), ("linear", in, out), ("flatten",), ("relu",), ("tanh",), ("sigmoid",).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

Layer = tuple[Any, ...]


@dataclass(frozen=True)
class Workload:
    """A training step: network, batch, loss and plain or momentum SGD."""

    name: str
    batch: int
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    loss: str = "cross_entropy"  # or "mse", against the input itself
    lr: float = 0.01
    momentum: float = 0.0

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """A batch, the same for every peer: x (N, ...), and labels (N,) or the target (N, ...)."""
        rng = np.random.default_rng(0)
        x = rng.random((self.batch, *self.input_shape), dtype=np.float32)
        if self.loss == "mse":
            return np.float32(x > rng.random(x.shape)), x
        return x, rng.integers(0, 10, self.batch)

    def parameters(self) -> list[np.ndarray]:
        """Weights and biases in order of layers, uniform within 1 / sqrt(fan in)."""
        rng = np.random.default_rng(1)
        arrays = []
        for kind, *sizes in self.layers:
            if kind == "conv":
                shape: tuple[int, ...] = (sizes[1], sizes[0], sizes[2], sizes[2])
            elif kind == "linear":
                shape = (sizes[1], sizes[0])
            else:
                continue
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            arrays.append(rng.uniform(-bound, bound, shape).astype(np.float32))
            arrays.append(rng.uniform(-bound, bound, shape[:1]).astype(np.float32))
        return arrays

    def flops(self) -> int:
        """Floating-point operations of matrix products in a step; the first layer needs no dx."""
        forward = self._products()
        return 2 * self.batch * (3 * sum(forward) - forward[0])

    def forward_flops(self) -> int:
        """Floating-point operations of matrix products in forward."""
        return 2 * self.batch * sum(self._products())

    def _products(self) -> list[int]:
        """Multiplications of one sample in each convolution and dense layer, forward."""
        products = []
        size = self.input_shape[-1]
        for kind, *sizes in self.layers:
            if kind == "conv":
                c, o, k, stride, padding = sizes
                size = (size + 2 * padding - k) // stride + 1
                products.append(o * size * size * c * k * k)
            elif kind == "linear":
                products.append(sizes[0] * sizes[1])
            elif kind == "pool":
                size = (size - sizes[0]) // sizes[1] + 1
        return products


def _mlp(*widths: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for before, after in pairwise(widths):
        layers += [("linear", before, after), ("relu",)]
    return tuple(layers[:-1])


TRAINING = (
    Workload(
        "denoiser", 100, (1, 28, 28),
        (("conv", 1, 20, 5, 1, 0), ("tanh",), ("conv", 20, 1, 5, 1, 4), ("sigmoid",)),
        loss="mse",
    ),
    Workload("softmax regression", 128, (784,), _mlp(784, 10), momentum=0.9),
    Workload("784-32-10", 100, (784,), _mlp(784, 32, 10)),
    Workload("784-32-32-10", 100, (784,), _mlp(784, 32, 32, 10)),
    Workload("784-512-512-10", 100, (784,), _mlp(784, 512, 512, 10)),
    Workload("784-500-400-10", 64, (784,), _mlp(784, 500, 400, 10)),
    Workload(
        "network 4", 100, (1, 28, 28),
        (
            ("conv", 1, 8, 3, 1, 1), ("pool", 2, 2), ("conv", 8, 8, 3, 1, 1), ("pool", 2, 2),
            ("flatten",), ("linear", 392, 32), ("relu",), ("linear", 32, 10),
        ),
    ),
    Workload(
        "206,500 parameters", 64, (1, 28, 28),
        (
            ("conv", 1, 20, 5, 1, 0), ("relu",), ("pool", 2, 2),
            ("conv", 20, 30, 4, 1, 0), ("relu",), ("conv", 30, 40, 3, 1, 0), ("relu",),
            ("pool", 2, 2), ("flatten",), ("linear", 360, 500), ("relu",), ("linear", 500, 10),
        ),
    ),
    Workload(
        "AlexNet to conv4", 16, (3, 224, 224),
        (
            ("conv", 3, 64, 11, 4, 2), ("relu",), ("pool", 3, 2),
            ("conv", 64, 192, 5, 1, 2), ("relu",), ("pool", 3, 2),
            ("conv", 192, 384, 3, 1, 1), ("relu",), ("conv", 384, 256, 3, 1, 1), ("relu",),
            ("pool", 3, 2), ("flatten",), ("linear", 9216, 2048), ("relu",),
            ("linear", 2048, 12), ("relu",), ("linear", 12, 10),
        ),
        momentum=0.9,
    ),
)  # fmt: skip

_INFERRED = ("network 4", "206,500 parameters", "784-500-400-10")
INFERENCE = tuple(
    replace(workload, name=f"{workload.name}, batch {batch}", batch=batch)
    for workload in TRAINING
    if workload.name in _INFERRED
    for batch in (1, 256)
)

_FEW_SAMPLES = {"784-32-10": (1, 2, 4), "denoiser": (4, 8), "network 4": (4, 8)}
SMALL_STEPS = tuple(
    replace(workload, name=f"{workload.name}, batch {batch}", batch=batch)
    for workload in TRAINING
    for batch in _FEW_SAMPLES.get(workload.name, ())
)


@dataclass(frozen=True)
class OperatorCall:
    """One operator with arrays of given shapes, forward or backward, under its name in pynn.ops."""

    operator: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, Any]
    backward: bool
    products: int  # multiply-adds of forward; 0 where memory is the limit

    def arrays(self) -> list[np.ndarray]:
        """Standard normal, float32."""
        rng = np.random.default_rng(2)
        return [rng.standard_normal(shape, dtype=np.float32) for shape in self.shapes]

    def labels(self) -> np.ndarray:
        """One class for each position of logits (N, C, ...), shape (N, ...)."""
        samples, classes, *inner = self.shapes[0]
        positions = (samples, *inner)
        return np.arange(np.prod(positions)).reshape(positions) % classes

    def gradient(self, shape: tuple[int, ...]) -> np.ndarray:
        """What backward starts from: standard normal, float32, in the shape of the result."""
        return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)

    def flops(self) -> int:
        """Floating-point operations: backward of a product is two products."""
        return 2 * self.products * (2 if self.backward else 1)


def _operators() -> dict[str, OperatorCall]:
    calls: dict[str, tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], int]] = {}

    def conv(n: int, c: int, size: int, o: int, k: int, padding: int = 0, groups: int = 1) -> None:
        shapes = ((n, c, size, size), (o, c // groups, k, k), (o,))
        y = size + 2 * padding - k + 1
        name = f"conv2d {c}->{o} {k}x{k} {size}x{size} batch {n}" + (
            f" groups {groups}" * (groups > 1)
        )
        attributes = {"padding": padding, "groups": groups}
        calls[name] = ("conv2d", shapes, attributes, n * o * y * y * c // groups * k * k)

    conv(100, 1, 28, 8, 3, padding=1)
    conv(100, 8, 14, 8, 3, padding=1)
    conv(64, 1, 28, 20, 5)
    conv(64, 20, 12, 30, 4)
    conv(64, 30, 9, 40, 3)
    conv(100, 20, 24, 1, 5, padding=4)
    conv(16, 64, 27, 192, 5, padding=2)
    conv(16, 192, 13, 384, 3, padding=1)
    conv(16, 64, 56, 64, 3, padding=1)
    conv(16, 256, 14, 256, 3, padding=1)
    conv(16, 64, 56, 256, 1)
    conv(16, 512, 7, 2048, 1)
    conv(16, 64, 28, 64, 3, padding=1, groups=64)
    for n, i, o in (
        (128, 784, 10),
        (100, 784, 32),
        (100, 784, 512),
        (64, 500, 400),
        (16, 9216, 2048),
        (1, 784, 500),
        (1, 9216, 2048),
    ):
        calls[f"linear {i}->{o} batch {n}"] = ("linear", ((n, i), (o, i), (o,)), {}, n * i * o)
    pools = ((100, 8, 28, 2, 2), (64, 20, 24, 2, 2), (16, 64, 55, 3, 2))
    for n, c, size, k, stride in pools:
        name = f"max_pool2d {k}/{stride} {c}x{size}x{size} batch {n}"
        options = {"kernel_size": k, "stride": stride}
        calls[name] = ("max_pool2d", ((n, c, size, size),), options, 0)
    calls["avg_pool2d 2/2 8x28x28 batch 100"] = (
        "avg_pool2d", ((100, 8, 28, 28),), {"kernel_size": 2, "stride": 2}, 0,
    )  # fmt: skip
    for name in ("relu", "tanh", "sigmoid"):
        calls[f"{name} 64x20x24x24"] = (name, ((64, 20, 24, 24),), {}, 0)
    calls["softmax 100x10"] = ("softmax", ((100, 10),), {"axis": 1}, 0)
    calls["log_softmax 256x1000"] = ("log_softmax", ((256, 1000),), {"axis": 1}, 0)
    for n, c in ((100, 10), (256, 1000)):
        calls[f"cross_entropy {n}x{c}"] = ("cross_entropy", ((n, c),), {}, 0)
    calls["cross_entropy 4x21x64x64"] = ("cross_entropy", ((4, 21, 64, 64),), {}, 0)
    for shape in ((1000, 10), (100, 512)):
        name = f"add {shape[0]}x{shape[1]} and {shape[1]}"
        calls[name] = ("add", (shape, shape[1:]), {}, 0)
    calls["mse_loss 100x1x28x28"] = ("mse_loss", ((100, 1, 28, 28),) * 2, {}, 0)
    calls["batch_norm 64x20x24x24"] = ("batch_norm", ((64, 20, 24, 24), (20,), (20,)), {}, 0)
    return {
        f"{name}, {direction}": OperatorCall(operator, shapes, attributes, back, products)
        for name, (operator, shapes, attributes, products) in calls.items()
        for direction, back in (("forward", False), ("backward", True))
    }


OPERATORS = _operators()
# So small that a kernel has next to nothing to do.
TINY_CALLS = {
    "relu 4": OperatorCall("relu", ((4,),), {}, False, 0),
    "add 4 and 4": OperatorCall("add", ((4,), (4,)), {}, False, 0),
    "matmul 1x4 and 4x4": OperatorCall("matmul", ((1, 4), (4, 4)), {}, False, 16),
    "linear 4->4 batch 1": OperatorCall("linear", ((1, 4), (4, 4), (4,)), {}, False, 16),
    "softmax 1x4": OperatorCall("softmax", ((1, 4),), {"axis": 1}, False, 0),
    "max_pool2d 2/2 1x4x4 batch 1": OperatorCall(
        "max_pool2d", ((1, 1, 4, 4),), {"kernel_size": 2, "stride": 2}, False, 0
    ),
    "conv2d 1->1 3x3 4x4 batch 1": OperatorCall(
        "conv2d", ((1, 1, 4, 4), (1, 1, 3, 3), (1,)), {"padding": 1}, False, 144
    ),
}
WORKLOADS: dict[str, Any] = {
    **{workload.name: workload for workload in (*TRAINING, *INFERENCE, *SMALL_STEPS)},
    **OPERATORS,
    **TINY_CALLS,
}
