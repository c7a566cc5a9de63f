"""Modules: parameters in __init__, layers called in forward. A module is traced once, then its
graph runs."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from pynn import executors
from pynn.backends import get_backend
from pynn.errors import DTypeError, FormatError, PynnError, ShapeError, StateError
from pynn.executors import Stream, Tape
from pynn.executors.plan import Evaluation, Plan, checked_plan, evaluation_for
from pynn.graph import (
    Array,
    Graph,
    Node,
    Shape,
    Stored,
    Symbol,
    Variable,
    is_tracing,
    real_array,
    tracing,
)
from pynn.locks import Turn, lock_across_forks
from pynn.nn.parameter import Buffer, Parameter, flatten, float_dtype, latest_change, note_change
from pynn.random import get_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

# How many samples run at once outside training, so that memory does not grow with the batch.
_CHUNK = 256
# How many graphs a model keeps: the usual batch, the last smaller one, and those of evaluation,
# several times over.
_CACHED_GRAPHS = 16
# Evaluation calls of one model may run at once: one thread at a time traces, and changes the cache.
_tracing_lock = lock_across_forks()
# The attribute that holds a model's turn. In a forked child another: there nobody trains any more
# who did when it was born.
_turn_name = "_run_turn"


def _forget_turns() -> None:
    global _turn_name  # noqa: PLW0603
    _turn_name = f"_run_turn_{os.getpid()}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_turns)


class Trace(NamedTuple):
    """A graph and what the model was when it was recorded."""

    graph: Graph
    version: tuple[Any, ...]
    modules: list[Module]  # keeps alive what `version` names by id


def _requires_grad(variable: Stored) -> bool:
    return isinstance(variable, Parameter) and variable.requires_grad


class Module:
    """A part of a model, or all of it.

    Subclasses set parameters (`Parameter`), buffers (`Buffer`) and other modules as attributes and
    define `forward`, which calls layers and operators on symbols. `model(x)` on an array runs the
    traced graph.

    Attributes:
        training: the mode; see `train` and `eval`.
    """

    training: bool = True
    _own_dtype: np.dtype[Any] = np.dtype(np.float32)  # where nothing that is stored has one

    # Attributes whose names start with _run_ belong to running a model, not to what it is.
    _run_version: int = 0
    _run_traces: OrderedDict[tuple[Any, ...], Trace] | None = None
    _run_checked: tuple[object, tuple[Any, ...]] | None = None
    _run_tape: tuple[Graph, Tape, int, int] | None = None  # updates before, thread
    # Each with the latest change when it was found.
    _run_evaluation: tuple[object, Evaluation] | None = None
    _run_dtype: tuple[object, np.dtype[Any]] | None = None
    _run_steps: int = 0

    def forward(self, *inputs: Any) -> Any:
        """Compute the output from symbols. To be defined by each subclass."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    # What a model is made of

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_run_"):
            object.__setattr__(self, name, value)
            return
        held = self.__dict__.get(name)
        if isinstance(held, (Parameter, Buffer)) and not isinstance(value, (Variable, type(None))):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {type(held).__name__}, got "
                f"{type(value).__name__}: to change its values, assign to {name}.data"
            )
        object.__setattr__(self, name, value)
        if (
            name != "training"
        ):  # the mode is compared by value, so that going back to it finds the old graph
            self._run_version += 1
        note_change()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._run_version += 1
        note_change()

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules set as attributes of this one, with their names."""
        for name, value in list(self.__dict__.items()):  # other threads may run the model
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with their paths."""
        yield from self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def _named_variables(self) -> Iterator[tuple[str, Parameter | Buffer]]:
        """Parameters, then buffers, of each module in turn: PyTorch's order. Each under the first
        path it is met at."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for kind in (Parameter, Buffer):
                for name, value in list(vars(module).items()):
                    if isinstance(value, kind) and id(value) not in seen:
                        seen.add(id(value))
                        yield (f"{path}.{name}" if path else name), value

    def _entries(
        self, prefix: str, above: tuple[int, ...]
    ) -> Iterator[tuple[str, Parameter | Buffer]]:
        """The same, but what is shared comes under each of its paths, as in PyTorch's states."""
        for kind in (Parameter, Buffer):
            for name, value in list(vars(self).items()):
                if isinstance(value, kind):
                    yield prefix + name, value
        above = (*above, id(self))
        for name, child in self.named_children():
            if id(child) not in above:  # a module may refer back to what holds it
                yield from child._entries(f"{prefix}{name}.", above)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths, each once, in order of registration."""
        for name, value in self._named_variables():
            if isinstance(value, Parameter):
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once, in order of registration."""
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """All buffers with their paths, each once, in order of registration."""
        for name, value in self._named_variables():
            if isinstance(value, Buffer):
                yield name, value

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: that of the parameters, or where there are none, of the buffers;
        for a model that has neither, what `astype` has made it, float32 before.

        Raises:
            DTypeError: the parameters differ.
        """
        first: tuple[str, Parameter] | None = None
        for name, parameter in self.named_parameters():
            if first is None:
                first = name, parameter
            elif parameter.dtype != first[1].dtype:
                raise DTypeError(
                    f"{first[0]} is {first[1].dtype} but {name} is {parameter.dtype}; "
                    "a model has one dtype: use model.astype"
                )
        if first is not None:
            return first[1].dtype
        buffers = {buffer.data.dtype for _, buffer in self.named_buffers()}
        if any(dtype.kind == "f" for dtype in buffers):
            return np.dtype(np.float64 if np.dtype(np.float64) in buffers else np.float32)
        return self._own_dtype

    # Mode and state

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch_norm uses the batch) here and below; returns the
        module."""
        for module in self.modules():
            if module.training != mode:
                module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below; returns the module."""
        return self.train(False)

    def freeze(self, frozen: bool = True) -> Self:
        """Exclude all parameters from training, or with False include them again; returns the
        module."""
        for parameter in self.parameters():
            parameter.requires_grad = not frozen
        return self

    def zero_grad(self) -> None:
        """Forget all gradients: each becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self, dtype: DTypeLike) -> Self:
        """Convert to float32 or float64. Values move to new memory; views taken before keep the old
        ones."""
        dtype = float_dtype(dtype)
        with self._turn_to_read():
            for _, variable in self._named_variables():
                variable.astype(dtype)
            for module in self.modules():
                module._own_dtype = dtype
            self._run_tape = None
        return self

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, by path, in order of registration: PyTorch's keys.
        What modules share is there under each of its paths. While another thread trains this
        model, they are of a moment between two steps."""
        with self._turn_to_read():
            return {name: variable.data.copy() for name, variable in self._entries("", ())}

    def load_state_dict(self, state: Mapping[str, ArrayLike], *, strict: bool = True) -> None:
        """Copy parameters and buffers in place.

        Args:
            state: arrays by path, as `state_dict` gives them; anything that NumPy can read as an
                array.
            strict: whether a missing or an unknown name is an error; otherwise both are passed
                over.

        Raises:
            FormatError: names are missing or unknown.
            DTypeError: an array is not of real numbers, or not of the integers that a buffer holds.
            ShapeError: an array has the wrong shape. Nothing is changed in any of these cases.
        """
        variables = dict(self._entries("", ()))
        missing = [name for name in variables if name not in state]
        unknown = [name for name in state if name not in variables]
        if strict and (missing or unknown):
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise FormatError(
                f"the state does not belong to this {type(self).__name__}: {'; '.join(parts)}"
            )
        arrays = {name: real_array(name, state[name]) for name in variables if name in state}
        wrong = [
            f"{name} must have shape {variables[name].shape}, got {array.shape}"
            for name, array in arrays.items()
            if array.shape != variables[name].shape
        ]
        if wrong:
            raise ShapeError("; ".join(wrong))
        for name, array in arrays.items():
            whole = variables[name].data.dtype.kind in "iu"
            if whole and array.dtype.kind == "f" and np.any(array % 1 != 0):
                raise DTypeError(f"{name} holds integers, and the state has others for it")
        with self._turn_to_read():
            for name, array in arrays.items():
                variables[name].data = array

    # Running

    def _turn(self) -> Turn:
        attributes = self.__dict__
        turn: Turn | None = attributes.get(_turn_name)
        if turn is None:
            turn = attributes.setdefault(_turn_name, Turn())  # another thread may be first
        return turn

    def _turn_to_train(self) -> AbstractContextManager[object]:
        """One thread at a time trains this model."""
        # Who traces has a lock already that who trains may wait for.
        if is_tracing():
            return nullcontext()
        turn: Turn | None = self.__dict__.get(_turn_name)
        return self._turn().to_train() if turn is None else turn.to_train()

    def _turn_to_read(self) -> AbstractContextManager[object]:
        """Nobody trains this model meanwhile."""
        return nullcontext() if is_tracing() else self._turn().to_read()

    def __call__(self, *inputs: Any) -> Any:
        """Run the model on arrays, or, inside forward, record it on symbols.

        Args:
            inputs: arrays (N, ...), batch first; converted to the model's dtype.

        Returns:
            The output, a new array (N, ...).
        """
        if not self.training and len(inputs) == 1:
            output = self._evaluate_at_once(inputs[0])
            if output is not None:
                return output
        if any(isinstance(value, Variable) for value in inputs):
            symbol = next((value for value in inputs if isinstance(value, Symbol)), None)
            if symbol is None:
                return self.forward(*inputs)
            with symbol.graph.enter(self):
                return self.forward(*inputs)
        arrays = [self.as_input(value) for value in inputs]
        if not self.training:
            self._forget_tape()
            return self._evaluate(arrays)
        with self._turn_to_train():
            self._run_tape = None
            # The caller may change x before backward reads it.
            graph, tape = self._run_forward([array.copy() for array in arrays])
            executors.commit(graph, tape)
            self._run_tape = graph, tape, _updates(graph), threading.get_ident()
            self._run_steps += 1
            return tape.output.copy()  # the tape's own is still to be read by backward

    def as_input(self, value: ArrayLike) -> Array:
        """An input as the model takes it: an array of its dtype; integers, bool and other floats
        are converted.

        Raises:
            DTypeError: it is complex, text or no array of numbers at all.
            ShapeError: it has no batch axis.
        """
        array = real_array("x", value)
        if array.ndim == 0:
            raise ShapeError("an input must have a batch axis, got a single number")
        array = np.ascontiguousarray(array, dtype=self._known_dtype())
        return array if array.flags.aligned else array.copy()

    def _known_dtype(self) -> np.dtype[Any]:
        change = latest_change()
        if self._run_dtype is None or self._run_dtype[0] is not change:
            self._run_dtype = change, self.dtype
        return self._run_dtype[1]

    def _forget_tape(self) -> None:
        if self._run_tape is not None:
            self._run_tape = None

    def _evaluate_at_once(self, x: object) -> Array | None:
        """The output for an input like the last one; None where that cannot be."""
        if self._run_evaluation is None or get_backend() != "native":
            return None
        change, evaluation = self._run_evaluation
        if change is not latest_change():
            return None
        output = evaluation(x, get_seed(), self._run_steps)
        if output is not None:
            self._forget_tape()
        return output

    def _prepare_evaluation(self, shape: Shape) -> None:
        """Let further inputs of this shape be evaluated at once."""
        if get_backend() != "native" or type(self).as_input is not Module.as_input:
            return
        change = latest_change()
        evaluation = evaluation_for(self.trace(shape).graph)
        if evaluation is not None and self.is_settled(change):
            self._run_evaluation = change, evaluation

    def _evaluate(self, arrays: list[Array]) -> Array:
        if len(arrays) == 1 and len(arrays[0]) <= _CHUNK:
            self._prepare_evaluation(arrays[0].shape)
            output = self._evaluate_at_once(arrays[0])
            if output is not None:
                return output
        batch = arrays[0].shape[0] if arrays else 0
        if batch <= _CHUNK or any(array.shape[0] != batch for array in arrays):
            return self._run(arrays, Stream(get_seed(), self._run_steps)).output
        if not self._rows_are_independent([array.shape for array in arrays]):
            return self._run(arrays, Stream(get_seed(), self._run_steps)).output
        pieces = [
            self._run(
                [array[begin : begin + _CHUNK] for array in arrays],
                Stream(get_seed(), self._run_steps, begin),
            ).output
            for begin in range(0, batch, _CHUNK)
        ]
        return np.concatenate(pieces)

    def _rows_are_independent(self, shapes: list[Shape]) -> bool:
        """Whether a chunk of the batch gives the same rows as the whole of it."""
        whole = self.trace(*shapes).graph
        try:
            chunk = self.trace(*((_CHUNK, *shape[1:]) for shape in shapes)).graph
        except PynnError:  # forward fits this batch alone
            return False
        mixing = any(
            (node.operator.mixes_samples and node.attributes.get("training", True))
            or node.attributes.get("axis") in (0, -len(chunk.shapes[node.output]))
            for node in chunk.nodes
        )
        return (
            not mixing
            and whole.shapes[whole.output][:1] == shapes[0][:1]
            and chunk.shapes[chunk.output][:1] == (_CHUNK,)
            and whole.constants.keys() == chunk.constants.keys()
            and all(np.array_equal(whole.constants[n], chunk.constants[n]) for n in chunk.constants)
            and len(whole.nodes) == len(chunk.nodes)
            and all(
                _same_but_for_rows(of_whole, shapes[0][0], of_chunk, _CHUNK)
                for of_whole, of_chunk in zip(whole.nodes, chunk.nodes, strict=True)
            )
        )

    def _run(self, arrays: list[Array], stream: Stream) -> Tape:
        graph = self.trace(*(array.shape for array in arrays)).graph
        return executors.forward(graph, arrays, stream)

    def _run_forward(
        self,
        arrays: list[Array],
        wanted: Callable[[Stored], bool] = _requires_grad,
        *,
        input_gradient: bool = True,
    ) -> tuple[Graph, Tape]:
        """Run forward and keep what backward needs for the gradients that are wanted; running
        statistics are not touched yet."""
        graph = self.trace(*(array.shape for array in arrays)).graph
        needed = graph.gradient_paths(wanted, input_gradient)
        return graph, executors.forward(graph, arrays, Stream(get_seed(), self._run_steps), needed)

    def backward(self, dy: ArrayLike) -> Any:
        """Add the gradients of the last call in training mode to the parameters' .grad.

        Args:
            dy: gradient of the loss with respect to the output, in its shape.

        Returns:
            dx, in the shape of the input; a tuple where the model has several.

        Raises:
            StateError: no call in training mode came before, the parameters have changed since, or
                the call was another thread's.
            DTypeError: dy is not of real numbers.
            ShapeError: dy has not the shape of the output.
        """
        with self._turn_to_train():
            return self._backward(dy)

    def _backward(self, dy: ArrayLike) -> Any:
        if self._run_tape is None:
            raise StateError(
                "backward needs a call in training mode first: model.train(), model(x), "
                "then model.backward(dy)"
            )
        graph, tape, updates, thread = self._run_tape
        if thread != threading.get_ident():
            raise StateError(
                "the last call in training mode was another thread's: one thread trains a model by "
                "hand, or several train copies of it"
            )
        if updates != _updates(graph):
            raise StateError(
                "the parameters have changed since the call that backward belongs to: call the "
                "model again, then backward, then the optimiser's step"
            )
        gradient = np.ascontiguousarray(real_array("dy", dy), dtype=graph.dtype)
        if gradient.shape != tape.output.shape:
            raise ShapeError(
                f"dy must have the output's shape {tape.output.shape}, got {gradient.shape}"
            )
        gradients = executors.backward(graph, tape, gradient, add=True)
        return gradients.inputs[0] if len(gradients.inputs) == 1 else tuple(gradients.inputs)

    def plan(self, *shapes: Shape) -> Plan:
        """What runs for inputs of these shapes on the native back end, forward only; the plan of a
        training step is that of `compile`.

        Args:
            shapes: the shape of each input, batch first.

        Returns:
            A plan; its `explain()` says what runs, in which layout, with flops and bytes.

        Raises:
            ShapeError: there is no plan: a value has not the batch as its first axis.
        """
        return checked_plan(self.trace(*(tuple(shape) for shape in shapes)).graph, None)

    def trace(self, *shapes: Shape) -> Trace:
        """The graph of this module for inputs of these shapes, in its mode and dtype; recorded anew
        after any change.

        Args:
            shapes: the shape of each input, batch first.

        Raises:
            ShapeError: an operator refuses; the message names its place in the model.
        """
        with _tracing_lock:
            if self._run_traces is None:
                self._run_traces = OrderedDict()
            version = self._version()
            key = (shapes, version)
            trace = self._run_traces.get(key)
            if trace is None:
                trace = self._record(shapes)
                key = (shapes, trace.version)
                self._run_traces[key] = trace
                while len(self._run_traces) > _CACHED_GRAPHS:
                    self._run_traces.popitem(last=False)
            self._run_traces.move_to_end(key)
            return trace

    def _version(self) -> tuple[Any, ...]:
        """All that a graph of this module depends on: which modules, each one's changes and mode,
        where its parameters and buffers lie, and its containers."""
        if self._run_checked is not None and self._run_checked[0] == latest_change():
            return self._run_checked[1]
        change = latest_change()
        parts: list[Any] = []
        watched = False
        for module in self.modules():
            parts.append((id(module), module._run_version, module.training))
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    where = id(value.segment)
                    parts.append((id(value), value.dtype.char, value.requires_grad, where))
                elif isinstance(value, Buffer):
                    parts.append((id(value), id(value._data)))
                elif _may_change(value) and not name.startswith("_run_"):
                    watched = True
                    parts.append((name, _frozen(value)))
        version = tuple(parts)
        self._run_checked = None if watched else (change, version)
        return version

    def is_settled(self, change: object) -> bool:
        """Whether nothing that a graph of this module depends on has changed since `change`, as far
        as one can know without looking: not where it holds lists or the like."""
        return self._run_checked is not None and self._run_checked[0] is change

    def _record(self, shapes: tuple[Shape, ...]) -> Trace:
        variables = [variable for _, variable in self._named_variables()]
        flatten(variable for variable in variables if isinstance(variable, Parameter))
        graph = Graph(
            dtype=self.dtype,
            names={id(module): path for path, module in self.named_modules()},
            registered={id(variable) for variable in variables},
        )
        with tracing(graph), graph.enter(self):
            output = self.forward(*(graph.add_input(shape) for shape in shapes))
        if not isinstance(output, Symbol):
            kind = type(output).__name__
            raise TypeError(f"forward of {type(self).__name__} must return one symbol, got {kind}")
        graph.output = output.number
        return Trace(graph, self._version(), list(self.modules()))

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: value for name, value in self.__dict__.items() if not name.startswith("_run_")
        }
        return state | {"_run_steps": self._run_steps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @recursive_repr()  # a module may refer back to what holds it
    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
        ]
        head = f"{type(self).__name__}({self.describe()}"
        return head + ("\n" + "\n".join(lines) + "\n" if lines else "") + ")"

    def describe(self) -> str:
        """What `repr` shows between the parentheses; layers say their sizes and options here."""
        return ""


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode inside the `with` block; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Same:
    """An object that equals itself alone; held, so that nothing else gets its id."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _same_but_for_rows(one: Node, rows: int, other: Node, other_rows: int) -> bool:
    """Whether two nodes compute the same, of as many rows each."""

    def attributes(node: Node, rows: int) -> dict[str, Any]:
        return {
            name: _frozen(("rows", *value[1:]))
            if isinstance(value, tuple) and value[:1] == (rows,)
            else _frozen(value)
            for name, value in node.attributes.items()
        }

    return (
        one.operator is other.operator
        and one.inputs == other.inputs
        and attributes(one, rows) == attributes(other, other_rows)
    )


def _updates(graph: Graph) -> int:
    """How often pynn has changed the parameters of a graph; it only grows."""
    parameters = (v for v in graph.variables.values() if isinstance(v, Parameter))
    segments = {id(p.segment): p.segment for p in parameters if p.segment is not None}
    return sum(segment.updates for segment in segments.values())


_CONTAINERS = (list, dict, set, deque, bytearray)


def _may_change(value: object) -> bool:
    """Whether it is a container that may change without an attribute being set."""
    if isinstance(value, tuple):
        return any(map(_may_change, value))
    return isinstance(value, _CONTAINERS)


def _frozen(value: object) -> Any:
    """A container as something that can be compared later: contents of containers, everything else
    by value or identity."""
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple, deque)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, (int, float, str, bytes, bool, type(None))):
        return value
    return _Same(value)
