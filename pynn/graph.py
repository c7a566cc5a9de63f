"""Symbols, nodes and graphs: what a forward method does, recorded once.

A graph is a list of nodes in the order they were recorded, which is an order in which they can run.
Values are numbered; a node reads values and writes one. What else an operator computes for its own
backward pass (the argmax of a pool, say) stays with the node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pynn.errors import DTypeError, PynnError, StateError
from pynn.locks import lock_across_forks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
Shape = tuple[int, ...]
Attributes = dict[str, Any]


def plain_array(name: str, value: ArrayLike) -> Array:
    """Anything that NumPy reads as an array; a masked array is refused, because its mask would be
    lost."""
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(
            f"{name} must not be a masked array; fill it first, with {name}.filled(value)"
        )
    return np.asarray(value)


def real_array(name: str, value: ArrayLike) -> Array:
    """Anything that NumPy reads as an array of real numbers: floats of any size, integers, bool."""
    array = plain_array(name, value)
    if array.dtype.kind not in "buif":
        raise DTypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return array


class Operator(NamedTuple):
    """An operator as graphs see it. `k` is a module of kernels: `pynn._core` or `pynn.reference`.

    Attributes:
        name: the one name it has everywhere.
        shape: `shape(*input_shapes, **attributes)` gives the shape of y; None stands for an absent
            input.
        forward: `forward(k, *inputs, **attributes)` gives (y, *what only backward needs).
        backward: `backward(k, dy, inputs, outputs, needs, **attributes)` gives a gradient, or None,
            for each input.
        commit: `commit(variables, outputs, x_shape, **attributes)`, called after a training step
            that succeeded: the place where running statistics are updated.
        random: whether it draws random numbers; then the attributes come with seed, step, node and
            first_sample.
        mixes_samples: whether a row of y depends on other rows of x than its own.
        python: whether it was registered by a user as Python functions, which run the same on every
            back end.
        library: the operator of a library that it stands for; it runs the same on every back end.
    """

    name: str
    shape: Callable[..., Shape]
    forward: Callable[..., tuple[Array, ...]]
    backward: Callable[..., tuple[Array | None, ...]]
    commit: Callable[..., None] | None = None
    random: bool = False
    mixes_samples: bool = False
    python: bool = False
    library: Any = None


OPERATORS: dict[str, Operator] = {}
REGISTERING = lock_across_forks()  # who adds and removes operators has it


def register(operator: Operator) -> Operator:
    """Add an operator to the one list of operators."""
    if operator.name in OPERATORS:
        raise ValueError(f"an operator called {operator.name!r} is registered already")
    OPERATORS[operator.name] = operator
    return operator


class Node(NamedTuple):
    """One call of an operator. `inputs` and `output` are numbers of values; None is an absent
    input."""

    operator: Operator
    inputs: tuple[int | None, ...]
    output: int
    attributes: Attributes
    path: str
    ordinal: int  # among the random nodes of the graph; -1 where the operator draws nothing


class Graph:
    """What one forward method does for one input shape, dtype and mode.

    Args:
        dtype: the dtype of the model.
        names: id of a module -> its path in the model.
        registered: ids of the parameters and buffers of the model.
    """

    def __init__(self, dtype: np.dtype[Any], names: dict[int, str], registered: set[int]) -> None:
        self.dtype, self.names, self.registered = dtype, names, registered
        self.shapes: list[Shape] = []
        self.inputs: list[int] = []
        self.variables: dict[int, Stored] = {}
        self.constants: dict[int, Array] = {}
        self.nodes: list[Node] = []
        self.output = -1
        self.scope: list[str] = []
        self.plans: dict[Any, Any] = {}  # what executors compiled, by what they ran
        self._numbers: dict[int, int] = {}  # id of a variable -> number of its value

    def new_value(self, shape: Shape) -> int:
        """Number a new value of this shape."""
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def add_input(self, shape: Shape) -> Symbol:
        """A symbol for an input of the model."""
        number = self.new_value(shape)
        self.inputs.append(number)
        return Symbol(self, number)

    @property
    def path(self) -> str:
        """Where in the model recording stands, as "features.3 (Conv2d)"."""
        return self.scope[-1] if self.scope else "model"

    @contextmanager
    def enter(self, module: object) -> Iterator[None]:
        """Record what happens inside under the module's path."""
        name = self.names.get(id(module))
        kind = type(module).__name__
        with self.within(kind if not name else f"{name} ({kind})"):
            yield

    @contextmanager
    def within(self, path: str) -> Iterator[None]:
        """Record what happens inside under this path."""
        self.scope.append(path)
        try:
            yield
        finally:
            self.scope.pop()

    def number_of(self, operand: object) -> int | None:
        """The number of the value that an operand of an operator stands for."""
        if operand is None:
            return None
        if isinstance(operand, Symbol):
            if operand.graph is not self:
                raise StateError(
                    f"{self.path}: a symbol of another call was used; "
                    "forward must not keep symbols between calls"
                )
            return operand.number
        if isinstance(operand, Stored):
            return self._number_of_variable(operand)
        try:
            array = real_array("operand", operand)  # type: ignore[arg-type]
        except DTypeError as error:
            raise DTypeError(f"{self.path}: {error}") from None
        number = self.new_value(array.shape)
        self.constants[number] = array
        return number

    def _number_of_variable(self, variable: Stored) -> int:
        if id(variable) not in self._numbers:
            if id(variable) not in self.registered:
                raise StateError(
                    f"{self.path}: forward uses a parameter of shape {variable.shape} that the "
                    "model does not know; keep modules and parameters as attributes, or in "
                    "nn.ModuleList, not in plain lists"
                )
            self._numbers[id(variable)] = number = self.new_value(variable.shape)
            self.variables[number] = variable
        return self._numbers[id(variable)]

    def record(self, name: str, operands: Sequence[object], attributes: Attributes) -> Symbol:
        """Add a node; shape errors name the place in the model."""
        operator = OPERATORS.get(name)
        if operator is None:
            raise ValueError(f"{self.path}: no operator is called {name!r}")
        inputs = tuple(self.number_of(operand) for operand in operands)
        shapes = [None if number is None else self.shapes[number] for number in inputs]
        try:
            shape = operator.shape(*shapes, **attributes)
        except PynnError as error:
            raise type(error)(f"{self.path}: {error}") from None
        ordinal = sum(node.operator.random for node in self.nodes) if operator.random else -1
        output = self.new_value(shape)
        self.nodes.append(Node(operator, inputs, output, attributes, self.path, ordinal))
        return Symbol(self, output)

    def gradient_paths(self, wanted: Callable[[Stored], bool], input_gradient: bool) -> list[bool]:
        """For each value, whether its gradient is needed, given which parameters' gradients are
        wanted."""
        needed = [False] * len(self.shapes)
        for number in self.inputs:
            needed[number] = input_gradient
        for number, variable in self.variables.items():
            needed[number] = wanted(variable)
        for node in self.nodes:
            needed[node.output] = any(
                number is not None and needed[number] for number in node.inputs
            )
        return needed

    def last_uses(self) -> list[list[int]]:
        """For each node, the values that nothing reads after it."""
        last = {
            number: index
            for index, node in enumerate(self.nodes)
            for number in node.inputs
            if number is not None
        }
        free: list[list[int]] = [[] for _ in self.nodes]
        for number, index in last.items():
            if number != self.output and number not in self.variables:
                free[index].append(number)
        return free


_tracing: ContextVar[Graph | None] = ContextVar("pynn_tracing", default=None)


@contextmanager
def tracing(graph: Graph) -> Iterator[Graph]:
    """Make a graph the one that operators on parameters are recorded in."""
    token = _tracing.set(graph)
    try:
        yield graph
    finally:
        _tracing.reset(token)


def is_tracing() -> bool:
    """Whether the calling thread is in the forward of a model that is being traced."""
    return _tracing.get() is not None


def record(name: str, operands: Sequence[object], attributes: Attributes) -> Any:
    """Record a node in the graph that the operands belong to; the symbol of its result."""
    graph = next((operand.graph for operand in operands if isinstance(operand, Symbol)), None)
    graph = graph or _tracing.get()
    if graph is None:
        raise StateError(
            f"{name}: parameters compute only inside forward; outside, use their .data"
        )
    return graph.record(name, operands, attributes)


class Variable:
    """What forward computes with: a symbol, a parameter or a buffer. Supports +, -, * and division
    by a number."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy operands leave the arithmetic to us

    shape: Shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def apply(self, name: str, *operands: object, **attributes: object) -> Any:
        """Record the operator `name` on this value and further operands."""
        return record(name, (self, *operands), attributes)

    def __add__(self, other: object) -> Any:
        if other is None:  # to operators, an input that is left out
            return NotImplemented
        return record("add", (self, other), {})

    __radd__ = __add__

    def __mul__(self, other: object) -> Any:
        if other is None:
            return NotImplemented
        return record("mul", (self, other), {})

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1.0

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Variable):
            raise TypeError(
                "pynn has no operator that divides by a computed value; multiply, or register "
                "your own"
            )
        return self * (1.0 / np.asarray(other))

    def __bool__(self) -> bool:
        raise TypeError(
            "the truth of a value is not known while forward is traced: shapes are, values are "
            "not. Branch on shapes or attributes, or register a Python operator with "
            "pynn.ops.register"
        )


class Stored(Variable):
    """A variable with content: a parameter or a buffer."""

    __slots__ = ()

    data: Any  # read, an array; assigned, whatever can be copied into it

    def add_gradient(self, gradient: Array) -> None:
        """Add to the gradient; where there is none, set it."""
        raise TypeError(f"a {type(self).__name__} has no gradient")

    def gradient_memory(self) -> tuple[Array, bool]:
        """Where the gradient lies, and whether there is one already, to be added to."""
        raise TypeError(f"a {type(self).__name__} has no gradient")

    def take_gradient(self) -> None:
        """Say that the gradient's memory has been written."""
        raise TypeError(f"a {type(self).__name__} has no gradient")

    def holder(self) -> Any:
        """The object whose `twin` is the copy on a device, or None while there is none."""
        return self

    def twin_of(self, dtype: np.dtype[Any], make: Callable[[Array], Any]) -> tuple[Any, int]:
        """The copy on a device of the array that the content is part of, and the first element that
        is its own; None where the content is of another dtype than the one that is wanted.

        Args:
            dtype: of the model.
            make: makes a twin of an array, where there is none yet.
        """
        return None, 0

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype, copy=copy)


class Symbol(Variable):
    """A value in a graph that is being recorded: its shape and dtype are known, its content is
    not."""

    __slots__ = ("graph", "number")

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph = graph
        self.number = number

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """The shape, batch first."""
        return self.graph.shapes[self.number]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the model."""
        return self.graph.dtype

    def __repr__(self) -> str:
        return f"Symbol(shape={self.shape}, dtype={self.dtype})"
