"""The networks that are timed, said once for all peers.

A network is a list of layers, each a tuple: ("conv", in, out, kernel, stride, padding on each side),
("pool", kernel, stride), ("linear", in, out), ("flatten",), ("relu",), ("tanh",), ("sigmoid",).
"""

from __future__ import annotations

from dataclasses import dataclass
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
        total, first = 0, True
        size = self.input_shape[-1]
        for kind, *sizes in self.layers:
            if kind == "conv":
                c, o, k, stride, padding = sizes
                size = (size + 2 * padding - k) // stride + 1
                products = o * size * size * c * k * k
            elif kind == "linear":
                products = sizes[0] * sizes[1]
            else:
                if kind == "pool":
                    size = (size - sizes[0]) // sizes[1] + 1
                continue
            total += 2 * products * (2 if first else 3)
            first = False
        return total * self.batch


def _mlp(*widths: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for before, after in zip(widths, widths[1:], strict=False):
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
            ("conv", 1, 20, 5, 1, 0), ("relu",), ("pool", 2, 2), ("conv", 20, 30, 4, 1, 0), ("relu",),
            ("conv", 30, 40, 3, 1, 0), ("relu",), ("pool", 2, 2), ("flatten",),
            ("linear", 360, 500), ("relu",), ("linear", 500, 10),
        ),
    ),
    Workload(
        "AlexNet to conv4", 16, (3, 224, 224),
        (
            ("conv", 3, 64, 11, 4, 2), ("relu",), ("pool", 3, 2), ("conv", 64, 192, 5, 1, 2), ("relu",),
            ("pool", 3, 2), ("conv", 192, 384, 3, 1, 1), ("relu",), ("conv", 384, 256, 3, 1, 1),
            ("relu",), ("pool", 3, 2), ("flatten",), ("linear", 9216, 2048), ("relu",),
            ("linear", 2048, 12), ("relu",), ("linear", 12, 10),
        ),
        momentum=0.9,
    ),
)  # fmt: skip
