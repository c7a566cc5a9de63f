"""JAX on the processor: the whole step under jit, buffers donated."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.workloads import Workload


def _forward(workload: Workload, parameters: list[Any], x: Any) -> Any:
    remaining = iter(parameters)
    for kind, *sizes in workload.layers:
        if kind == "conv":
            _, _, _, stride, padding = sizes
            w, b = next(remaining), next(remaining)
            x = jax.lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2)
            x = x + b[:, None, None]
        elif kind == "linear":
            w, b = next(remaining), next(remaining)
            x = x @ w.T + b
        elif kind == "pool":
            window, stride = (1, 1, sizes[0], sizes[0]), (1, 1, sizes[1], sizes[1])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, "VALID")
        elif kind == "flatten":
            x = x.reshape(x.shape[0], -1)
        else:
            x = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[kind](x)
    return x


def train(workload: Workload, threads: int) -> Callable[[], float]:
    """The number of threads is that of the processors the process may use: see worker.py."""
    x, y = workload.inputs()

    def loss(parameters: list[Any], x: Any, y: Any) -> Any:
        output = _forward(workload, parameters, x)
        if workload.loss == "mse":
            return jnp.mean((output - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(output), y[:, None], 1))

    def update(parameters: list[Any], velocity: list[Any], x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        velocity = [workload.momentum * v + g for v, g in zip(velocity, gradients, strict=True)]
        parameters = [p - workload.lr * v for p, v in zip(parameters, velocity, strict=True)]
        return value, parameters, velocity

    compiled = jax.jit(update, donate_argnums=(0, 1))
    parameters = [jnp.asarray(array) for array in workload.parameters()]
    velocity = [jnp.zeros_like(array) for array in parameters]
    x, y = jnp.asarray(x), jnp.asarray(y)

    def step() -> float:
        nonlocal parameters, velocity
        value, parameters, velocity = compiled(parameters, velocity, x, y)
        return float(value)

    return step
