"""Gradients against central finite differences, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynn import executors
from pynn.graph import Array, Stored
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter


class _Function(Module):
    """A function of symbols as a module, so that it can be traced."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


@dataclass(frozen=True)
class GradientComparison:
    """One gradient beside its finite differences.

    Attributes:
        name: of the parameter, or "input 0", "input 1", ...
        error: largest absolute difference over the largest absolute gradient of the two.
        index: where that difference is; computed and expected, the values there.
        elements: how many elements were compared.
        own_error: the largest difference that an element has relative to itself, that is, to the
            larger of the two; 0 where both are 0. Small derivatives make it coarser than `error`:
            give `numerical_gradient` the terms of the sum, and order 4.
    """

    name: str
    error: float
    index: tuple[int, ...]
    computed: float
    expected: float
    elements: int
    own_error: float = 0.0


@dataclass(frozen=True)
class GradReport:
    """What `gradcheck` found; `error` is the largest of all relative errors."""

    comparisons: tuple[GradientComparison, ...]

    @property
    def error(self) -> float:
        """The largest relative error."""
        return _largest(comparison.error for comparison in self.comparisons)

    @property
    def own_error(self) -> float:
        """The largest relative error of an element in relation to itself."""
        return _largest(comparison.own_error for comparison in self.comparisons)

    def __str__(self) -> str:
        lines = [
            f"{c.name}: relative error {c.error:.2e} over {c.elements} elements; "
            f"worst at {c.index}: computed {c.computed:.12g}, finite difference {c.expected:.12g}"
            for c in self.comparisons
        ]
        return "\n".join(lines)


def _largest(errors: Iterable[float]) -> float:
    """NaN where any is NaN; 0 of none."""
    return float(np.max([0.0, *errors]))


# Coefficients of f(a + k eps) - f(a - k eps), k = 1, 2, ..., over eps: the error is of order eps^2
# or eps^4.
_STENCILS = {2: (1 / 2,), 4: (2 / 3, -1 / 12)}


def numerical_gradient(
    function: Callable[[], Any],
    array: Array,
    *,
    eps: float = 1e-5,
    order: int = 2,
    flat_indices: Sequence[int] | None = None,
) -> Array:
    """Central differences, one element of `array` at a time.

    Args:
        function: computes the value from the current content of `array`: a number, or an array of
            terms whose sum is the value. Differences are then taken term by term and summed, so
            that terms on which an element has no influence bring in no rounding.
        array: float64, C-contiguous; changed during the call and restored.
        eps: step.
        order: 2 for (f(a + eps) - f(a - eps)) / (2 eps), which is off by about eps^2 f''' / 6; 4
            for the difference over four points, off by about eps^4 f^(5) / 30, for which a larger
            eps, such as 1e-3, can be taken.
        flat_indices: which elements; None means all.

    Returns:
        Derivatives, shape (len(flat_indices),), or the shape of `array` for None.
    """
    if order not in _STENCILS:
        raise ValueError(f"order must be 2 or 4, got {order}")
    flat = array.reshape(-1)
    if not np.shares_memory(flat, array) and array.size:
        raise ValueError(
            "numerical_gradient needs a C-contiguous array: it changes elements in place"
        )
    indices = range(array.size) if flat_indices is None else flat_indices
    result = np.zeros(len(indices))
    for position, index in enumerate(indices):
        kept = flat[index]
        try:
            for steps, coefficient in enumerate(_STENCILS[order], 1):
                flat[index] = kept + steps * eps
                above = np.array(function())  # a copy: the next call may use its memory
                flat[index] = kept - steps * eps
                result[position] += coefficient / eps * float(np.sum(above - function()))
        finally:
            flat[index] = kept
    return result.reshape(array.shape) if flat_indices is None else result


def gradcheck(
    fn_or_module: Callable[..., Any] | Module,
    inputs: ArrayLike | Sequence[ArrayLike],
    *,
    loss: Callable[[Array], tuple[Any, Array]] | None = None,
    check_inputs: bool = True,
    eps: float = 1e-5,
    order: int = 2,
    rtol: float = 1e-6,
    max_elements: int | None = 60,
    seed: int = 0,
    raise_error: bool = True,
) -> GradReport:
    """Compare the gradients of a function or module with finite differences, in float64.

    The compared value is the sum of the output times fixed random numbers, or the loss that is
    given. A module is copied, converted to float64 and checked in its mode; random layers keep
    their mask. Keep inputs away from kinks (0 of ReLU, equal values in a pool).

    Args:
        fn_or_module: a module, or a function of symbols built from `pynn.ops`, such as `lambda x,
            w: ops.conv2d(x, w, padding=1)`.
        inputs: its input, or a list of them; converted to float64. Gradients of all are checked,
            and of all parameters.
        loss: gives, from the output, the loss and its gradient with respect to the output. In place
            of the loss it may give the terms whose sum it is, for sharper differences: `lambda
            logits: ops.cross_entropy(logits, y, reduction="none", return_grad=True)`.
        check_inputs: whether gradients of the inputs are compared as well as those of parameters.
        eps, order: of the differences, see `numerical_gradient`.
        rtol: largest relative error, against the largest gradient of the same array.
        max_elements: of larger arrays, this many elements, drawn by `seed`, are compared; None:
            all.
        seed: of the random numbers.
        raise_error: raise AssertionError where an error exceeds rtol.

    Returns:
        A GradReport.
    """
    function = fn_or_module
    if isinstance(fn_or_module, Module):
        function = copy.deepcopy(fn_or_module)
    if isinstance(function, Module) and function.state_dict():
        model = function.astype("float64")
    else:
        model = _Function(function)
        model.double = Parameter(np.zeros(1))  # so that the model's dtype is float64
    listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    arrays = [np.array(value, dtype=np.float64) for value in listed]
    rng = np.random.default_rng(seed)

    graph, tape = model._run_forward(arrays)
    if loss is None:
        loss = _random_sum(rng.standard_normal(tape.output.shape))
    dy = np.ascontiguousarray(loss(tape.output)[1])

    def value() -> Any:
        return loss(model._run_forward(arrays, _nothing, input_gradient=False)[1].output)[0]

    gradients = executors.backward(graph, tape, dy)
    computed = {id(variable): gradient for variable, gradient in gradients.variables}
    pairs: list[tuple[str, Array, Array]] = []
    for number, array in enumerate(arrays if check_inputs else ()):
        pairs.append((f"input {number}", array, _array(gradients.inputs[number])))
    for name, parameter in model.named_parameters():
        if id(parameter) in computed:
            pairs.append((name, parameter.data, computed[id(parameter)]))

    comparisons = []
    for name, array, gradient in pairs:
        indices = np.arange(array.size)
        if max_elements is not None and array.size > max_elements:
            indices = np.sort(rng.choice(array.size, max_elements, replace=False))
        expected = numerical_gradient(
            value, array, eps=eps, order=order, flat_indices=indices.tolist()
        )
        comparisons.append(
            compare(name, gradient.reshape(-1)[indices], expected, indices, array.shape)
        )
    report = GradReport(tuple(comparisons))
    if raise_error and not report.error <= rtol:
        raise AssertionError(
            f"gradients differ from finite differences by more than {rtol:g}:\n{report}"
        )
    return report


def _random_sum(weights: Array) -> Callable[[Array], tuple[Any, Array]]:
    return lambda output: (np.sum(output * weights), weights)


def _nothing(variable: Stored) -> bool:
    return False


def _array(gradient: Array | None) -> Array:
    assert gradient is not None
    return gradient


def compare(
    name: str, computed: Array, expected: Array, flat_indices: Array, shape: tuple[int, ...]
) -> GradientComparison:
    """Two gradients of the same elements, computed and by finite differences, both (K,), side by
    side."""
    if not len(flat_indices):
        return GradientComparison(name, 0.0, (), 0.0, 0.0, 0)
    difference = np.abs(computed - expected)
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    scale = max(
        np.abs(computed).max(), np.abs(expected).max(), 1e-3
    )  # gradients below it are rounding of the value itself
    larger = np.maximum(np.abs(computed), np.abs(expected))
    own = np.divide(difference, larger, out=np.zeros(len(difference)), where=difference != 0)
    place = (
        tuple(int(i) for i in np.unravel_index(int(flat_indices[worst]), shape)) if shape else ()
    )
    return GradientComparison(
        name,
        float(difference[worst] / scale),
        place,
        float(computed[worst]),
        float(expected[worst]),
        len(flat_indices),
        float(own.max()),
    )
