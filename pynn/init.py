"""Initialisers: functions that draw the first values of a parameter.

An initialiser is called as ``initialiser(shape, rng, dtype)`` and returns a new array. `zeros`,
`ones` and `torch_default` are initialisers; the other functions here return one. Layers take any
of them, and whatever else `get` accepts, as ``weight_init=`` and ``bias_init=``:

    nn.Linear(392, 32, weight_init=init.glorot_uniform(), bias_init=0.1)

Values are drawn in float64 and then cast, so that a float32 and a float64 model of one seed agree
to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pynn.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Initializer",
    "constant",
    "fan",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "torch_default",
    "torch_default_bias",
    "uniform",
    "zeros",
]

Initializer: TypeAlias = Callable[
    [tuple[int, ...], "np.random.Generator", "DTypeLike"], "NDArray[Any]"
]


def fan(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many inputs reach one output of a weight, and how many outputs one input.

    Args:
        shape: (out, in) of a dense layer, or (O, I/groups, KH, KW) of a convolution.

    Returns:
        fan_in = in, fan_out = out; for a convolution both times KH * KW. As in PyTorch, fan_out
        takes no account of groups.

    Raises:
        ShapeError: `shape` has fewer than two dimensions.
    """
    if len(shape) < 2:
        raise ShapeError(
            f"an initialiser that scales by fan-in or fan-out needs a shape (out, in, ...), "
            f"got {tuple(shape)}"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def zeros(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros; `rng` is not used."""
    return np.zeros(shape, dtype)


def ones(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of ones; `rng` is not used."""
    return np.ones(shape, dtype)


def constant(value: float) -> Initializer:
    """Every element is `value`."""
    return lambda shape, rng, dtype: np.full(shape, value, dtype)


def normal(mean: float = 0.0, std: float = 0.01) -> Initializer:
    """Normal with the given mean and standard deviation."""
    return lambda shape, rng, dtype: rng.normal(mean, std, shape).astype(dtype)


def uniform(low: float = -0.05, high: float = 0.05) -> Initializer:
    """Uniform on [low, high)."""
    return lambda shape, rng, dtype: rng.uniform(low, high, shape).astype(dtype)


def _scaled_uniform(std: Callable[[int, int], float]) -> Initializer:
    """Uniform on [-a, a) with a = sqrt(3) std(fan_in, fan_out), which has that deviation."""

    def initializer(
        shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike
    ) -> NDArray[Any]:
        bound = math.sqrt(3) * _std(std, shape)
        return rng.uniform(-bound, bound, shape).astype(dtype)

    return initializer


def _scaled_normal(std: Callable[[int, int], float]) -> Initializer:
    """Normal with mean 0 and deviation std(fan_in, fan_out)."""

    def initializer(
        shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike
    ) -> NDArray[Any]:
        return rng.normal(0.0, _std(std, shape), shape).astype(dtype)

    return initializer


def _std(std: Callable[[int, int], float], shape: tuple[int, ...]) -> float:
    fan_in, fan_out = fan(shape)
    return std(max(fan_in, 1), max(fan_out, 1))  # an empty weight has no fan, and needs none


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform on +-gain sqrt(6 / (fan_in + fan_out)).

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16. Keeps the variance of signals and gradients for tanh-like units.
    """
    return _scaled_uniform(lambda fan_in, fan_out: gain * math.sqrt(2 / (fan_in + fan_out)))


def glorot_normal(gain: float = 1.0) -> Initializer:
    """Normal with deviation gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio 2010."""
    return _scaled_normal(lambda fan_in, fan_out: gain * math.sqrt(2 / (fan_in + fan_out)))


def he_uniform(a: float = 0.0) -> Initializer:
    """Uniform on +-sqrt(6 / ((1 + a^2) fan_in)), for leaky rectifiers of slope `a`; 0 is ReLU.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, equation 15.
    """
    return _scaled_uniform(lambda fan_in, _: math.sqrt(2 / ((1 + a * a) * fan_in)))


def he_normal(a: float = 0.0) -> Initializer:
    """Normal with deviation sqrt(2 / ((1 + a^2) fan_in)): He et al. 2015."""
    return _scaled_normal(lambda fan_in, _: math.sqrt(2 / ((1 + a * a) * fan_in)))


def lecun_uniform() -> Initializer:
    """Uniform on +-sqrt(3 / fan_in).

    LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6: deviation
    fan_in^(-1/2).
    """
    return _scaled_uniform(lambda fan_in, _: math.sqrt(1 / fan_in))


def lecun_normal() -> Initializer:
    """Normal with deviation sqrt(1 / fan_in): LeCun et al. 1998."""
    return _scaled_normal(lambda fan_in, _: math.sqrt(1 / fan_in))


def orthogonal(gain: float = 1.0) -> Initializer:
    """`gain` times a random matrix with orthonormal rows, or columns where there are more rows.

    The weight is seen as a matrix (shape[0], product of the rest). Saxe, McClelland and Ganguli,
    "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR
    2014; made uniform over the orthogonal group by the signs of R (Mezzadri 2007).
    """

    def initializer(
        shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike
    ) -> NDArray[Any]:
        fan(shape)  # refuses a vector
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.where(np.diagonal(r) < 0, -gain, gain)
        return np.ascontiguousarray(q if rows >= columns else q.T, dtype).reshape(shape)

    return initializer


def torch_default(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike
) -> NDArray[Any]:
    """Uniform on +-1 / sqrt(fan_in): the weights of PyTorch's Linear and Conv2d.

    PyTorch writes it as kaiming_uniform with a = sqrt(5).
    """
    return he_uniform(math.sqrt(5))(shape, rng, dtype)


def torch_default_bias(fan_in: int) -> Initializer:
    """Uniform on +-1 / sqrt(fan_in) of the weight beside it: the biases of PyTorch's layers."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)


_FACTORIES: dict[str, Callable[[], Initializer]] = {
    "normal": normal,
    "uniform": uniform,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
}
_INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "torch_default": torch_default,
    **{name: factory() for name, factory in _FACTORIES.items()},
}


def _copy_of(values: NDArray[Any]) -> Initializer:
    values = values.copy()

    def initializer(
        shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike
    ) -> NDArray[Any]:
        if values.shape != tuple(shape):
            raise ShapeError(
                f"the initial values must have shape {tuple(shape)}, got {values.shape}"
            )
        return np.array(values, dtype, order="C")

    return initializer


def get(
    spec: str | float | NDArray[Any] | Initializer | Callable[[], Initializer],
) -> Initializer:
    """Return the initialiser that `spec` stands for.

    Args:
        spec: a name such as "glorot_uniform" (with the defaults of that function), a number (every
            element is that number), an array (copied; its shape must be that of the parameter), or
            an initialiser. `init.glorot_uniform` without its call is taken as
            `init.glorot_uniform()`.

    Raises:
        ValueError: there is no initialiser of that name.
        TypeError: `spec` is something else.
    """
    if isinstance(spec, str):
        if spec not in _INITIALIZERS:
            raise ValueError(
                f"unknown initialiser {spec!r}; choose from {', '.join(sorted(_INITIALIZERS))}"
            )
        return _INITIALIZERS[spec]
    if isinstance(spec, np.ndarray):
        return _copy_of(spec)
    if isinstance(spec, Real):
        return constant(float(spec))
    for name, factory in _FACTORIES.items():
        if spec is factory:
            return _INITIALIZERS[name]
    if callable(spec):
        return spec  # type: ignore[return-value]
    raise TypeError(
        "an initialiser is a name, a number, an array or a function (shape, rng, dtype) -> array, "
        f"got {type(spec).__name__}"
    )
