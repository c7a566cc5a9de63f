"""Sample cases of operators: from one entry for each operator come its tests and its benchmark
rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
from numpy.typing import DTypeLike

from pynn import executors, ops
from pynn.backends import backend
from pynn.graph import Array, Shape
from pynn.nn.parameter import Parameter
from pynn.testing.gradcheck import _Function, compare, numerical_gradient

Shapes = Sequence[Shape | None]
Make = Callable[[np.random.Generator, Shapes], list[Any]]


def normal(rng: np.random.Generator, shapes: Shapes) -> list[Any]:
    """Standard normal arrays."""
    return [None if shape is None else rng.standard_normal(shape) for shape in shapes]


def distinct(rng: np.random.Generator, shapes: Shapes) -> list[Any]:
    """Arrays of different values, evenly spaced over -1 ... 1 without 0: no ties, and no kink
    within reach of a difference."""
    arrays: list[Any] = []
    for shape in shapes:
        if shape is None:
            arrays.append(None)
            continue
        count = int(np.prod(shape))
        values = (rng.permutation(count) + 0.5) / max(count, 1) * 2 - 1
        values[values == 0] = 1 / max(count, 1)
        arrays.append(values.reshape(shape))
    return arrays


@dataclass(frozen=True)
class Refusal:
    """Inputs that an operator must refuse, with which exception and which words."""

    operator: str
    name: str
    arrays: Callable[[], list[Any]]
    attributes: dict[str, Any]
    error: type[Exception]
    message: str
    spread: bool = True

    def call(self, backend_name: str) -> None:
        """Call the operator; it is expected to raise."""
        arrays = self.arrays()
        with backend(backend_name):
            getattr(ops, self.operator)(*(arrays if self.spread else [arrays]), **self.attributes)


@dataclass(frozen=True)
class Case:
    """One sample of one operator.

    Attributes:
        shapes: of the arrays, in the order of the operator's arguments; None for an absent one.
        attributes: keyword arguments.
        differentiable: which arrays have gradients.
        terms: how many products a value of y, or of a gradient, is the sum of: it sets the
            tolerance.
        flops: floating-point operations of forward, for benchmarks.
        spread: whether arrays are separate arguments, or one list.
        loss: whether the operator returns a number and its gradient in one call.
    """

    operator: str
    name: str
    shapes: tuple[Shape | None, ...]
    attributes: dict[str, Any]
    make: Make
    differentiable: tuple[int, ...]
    terms: int
    flops: int
    spread: bool = True
    loss: bool = False

    def __str__(self) -> str:
        return f"{self.operator}-{self.name}"

    def arrays(self, dtype: DTypeLike = np.float64) -> list[Any]:
        """The arrays of this case, the same values in every dtype; integers stay."""
        seed = sum(ord(letter) * (place + 1) for place, letter in enumerate(str(self)))
        made = self.make(np.random.default_rng(seed), self.shapes)
        return [
            array.astype(dtype)
            if isinstance(array, np.ndarray) and array.dtype.kind == "f"
            else array
            for array in made
        ]

    def apply(self, arrays: Sequence[Any], **attributes: Any) -> Any:
        """Call the operator's function on given operands."""
        function = getattr(ops, self.operator)
        return function(*(arrays if self.spread else [arrays]), **self.attributes, **attributes)

    def call(self, backend_name: str = "native", dtype: DTypeLike = np.float64) -> Any:
        """The result on one back end."""
        with backend(backend_name):
            return self.apply(self.arrays(dtype))

    def gradients(self, backend_name: str = "native", dtype: DTypeLike = np.float64) -> list[Array]:
        """The gradients of sum(y * c), c fixed random numbers, with respect to each differentiable
        array."""
        arrays = self.arrays(dtype)
        with backend(backend_name):
            if self.loss:
                gradient: Array = self.apply(arrays, return_grad=True)[1]
                return [gradient]
            model, inputs = self._model(arrays)
            graph, tape = model._run_forward(inputs)
            dy = self._weights(tape.output.shape).astype(dtype)
            return [g for g in executors.backward(graph, tape, dy).inputs if g is not None]

    def finite_differences(self, max_elements: int = 40) -> list[Any]:
        """Comparisons of the native float64 gradients with central differences, one for each
        differentiable array."""
        arrays = self.arrays()
        gradients = self.gradients()
        if self.loss:
            inputs = [arrays[index] for index in self.differentiable]

            def value() -> float:
                return float(np.sum(self.apply(arrays)))
        else:
            model, inputs = self._model(arrays)
            weights = self._weights(model._run_forward(inputs)[1].output.shape)

            def value() -> float:
                return float(np.sum(model._run_forward(inputs)[1].output * weights))

        comparisons = []
        rng = np.random.default_rng(1)
        for index, array, gradient in zip(self.differentiable, inputs, gradients, strict=True):
            places = np.arange(array.size)
            if array.size > max_elements:
                places = np.sort(rng.choice(array.size, max_elements, replace=False))
            expected = numerical_gradient(value, array, flat_indices=places.tolist())
            comparisons.append(
                compare(
                    f"argument {index}", gradient.reshape(-1)[places], expected, places, array.shape
                )
            )
        return comparisons

    def _weights(self, shape: Shape) -> Array:
        return np.random.default_rng(7).standard_normal(shape)

    def _model(self, arrays: list[Any]) -> tuple[_Function, list[Array]]:
        """The operator as a module of its differentiable arrays; the others are constants."""

        def function(*symbols: Any) -> Any:
            operands = list(arrays)
            for index, symbol in zip(self.differentiable, symbols, strict=True):
                operands[index] = symbol
            return self.apply(operands)

        model = _Function(function)
        inputs = [arrays[index] for index in self.differentiable]
        model.dtype_holder = Parameter(np.zeros(1, inputs[0].dtype))
        return model, inputs


@dataclass(frozen=True)
class Entry:
    """All that the op table says of one operator."""

    cases: tuple[Case, ...]
    refusals: tuple[Refusal, ...]
    bench: tuple[Case, ...] = field(default=())


TABLE: dict[str, Entry] = {}


def samples(
    operator: str,
    cases: Mapping[str, tuple[Any, dict[str, Any]]],
    *,
    refuses: Mapping[str, tuple[Any, dict[str, Any], type[Exception], str]],
    bench: Mapping[str, tuple[Any, dict[str, Any]]] | None = None,
    make: Make = normal,
    differentiable: Sequence[int] | None = None,
    terms: Callable[[Shapes, dict[str, Any]], int] = lambda shapes, attributes: 1,
    flops: Callable[[Shapes, dict[str, Any]], int] = lambda shapes, attributes: int(
        np.prod(shapes[0] or ())
    ),
    spread: bool = True,
    loss: bool = False,
) -> None:
    """Enter an operator's samples in the table.

    Args:
        operator: its name.
        cases: by name, (shapes of its arrays, attributes). Each name says why the case is there.
        refuses: by name, (shapes or a function that makes the arrays, attributes, exception, words
            of its message).
        bench: cases of the size people use, for `pynn bench`; they are not tested.
        make: makes arrays from a generator and shapes.
        differentiable: which arrays have gradients; None means all that are not None.
        terms, flops: see `Case`; from shapes and attributes.
        spread, loss: see `Case`.
    """

    def case(name: str, shapes: Any, attributes: dict[str, Any]) -> Case:
        chosen = [index for index, shape in enumerate(shapes) if shape is not None]
        if differentiable is not None:
            chosen = [
                index
                for index in differentiable
                if index < len(shapes) and shapes[index] is not None
            ]
        return Case(
            operator, name, tuple(shapes), attributes, make, tuple(chosen),
            terms(shapes, attributes), flops(shapes, attributes), spread, loss,
        )  # fmt: skip

    def arrays_of(source: Any) -> Callable[[], list[Any]]:
        return source if callable(source) else lambda: normal(np.random.default_rng(0), source)

    TABLE[operator] = Entry(
        tuple(case(name, *entry) for name, entry in cases.items()),
        tuple(
            Refusal(operator, name, arrays_of(source), attributes, error, message, spread)
            for name, (source, attributes, error, message) in refuses.items()
        ),
        tuple(case(name, *entry) for name, entry in (bench or {}).items()),
    )


class Tolerance(TypedDict):
    """Arguments of numpy.testing.assert_allclose."""

    rtol: float
    atol: float


def tolerance(case: Case, expected: Array, dtype: DTypeLike) -> Tolerance:
    """Rtol and atol for a result computed in `dtype`.

    A sum of K rounded products is off by about sqrt(K) roundings of its terms (K in the worst
    case); 8 leaves room for the few roundings of an activation. The largest result stands for the
    size of the terms."""
    eps = float(np.finfo(np.dtype(dtype)).eps)
    largest = (
        float(np.max(np.abs(expected[np.isfinite(expected)]), initial=1e-3))
        if np.ndim(expected)
        else abs(float(expected))
    )
    return {"rtol": 8 * eps, "atol": float(8 * eps * np.sqrt(case.terms) * max(largest, 1e-3))}
