"""Parameters, buffers, and the flat memory they lie in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pynn.errors import DTypeError, ShapeError
from pynn.graph import Array, Shape, Stored, real_array
from pynn.locks import lock_across_forks
from pynn.memory import LINE_BYTES, aligned_zeros

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

_latest_change = object()
_layout_lock = lock_across_forks()


def note_change() -> None:
    """Say that some model may have changed, so that graphs traced before are checked before they
    run again."""
    global _latest_change  # noqa: PLW0603  one object for the process: comparing it is the whole cost of a call
    _latest_change = object()


def latest_change() -> object:
    """An object that is another one whenever a model may have changed."""
    return _latest_change


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64 as a dtype; anything else is a DTypeError."""
    if dtype is None:  # float64 to NumPy
        raise DTypeError("a model is float32 or float64, got None")
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"a model is float32 or float64, got {dtype!r}") from None
    if result not in (np.float32, np.float64):
        raise DTypeError(f"a model is float32 or float64, got {result}")
    return result


class Twin(Protocol):
    """The copy on a device of an array in host memory. Whichever was changed last is right."""

    def to_host(self) -> None:
        """Make the array in host memory right, and suppose that it is changed."""


class Segment:
    """One flat buffer of parameters, and one of the same layout for their gradients. Each begins
    with a line of the cache; the room between them is updated with them, and means nothing.

    Args:
        parameters: in their order.
        data: memory that holds their values already; None makes it.

    Attributes:
        updates: how often pynn has changed the parameters.
        twin: the copy of `data` on a device, where there is one.
    """

    def __init__(self, parameters: list[Parameter], data: Array | None = None) -> None:
        dtype = parameters[0].dtype
        self._line = LINE_BYTES // dtype.itemsize
        if data is None:
            data = aligned_zeros((sum(map(self._room, parameters)),), dtype)
        self._data: Array = data
        self.twin: Twin | None = None
        self.updates = 0
        self._gradients: Array | None = None
        offset = 0
        for parameter in parameters:
            parameter._move_to(self, offset)
            offset += self._room(parameter)

    def _room(self, parameter: Parameter) -> int:
        return -(-parameter.size // self._line) * self._line

    def end(self, parameter: Parameter) -> int:
        """Where the parameter ends that comes next, or this one, if it is the last."""
        return min(parameter.offset + self._room(parameter), self._data.size)

    @property
    def data(self) -> Array:
        """The parameters and what is between them, shape (size,)."""
        if self.twin is not None:
            self.twin.to_host()
        return self._data

    @property
    def gradients(self) -> Array:
        """The gradient buffer, allocated when it is first asked for."""
        if self._gradients is None:
            self._gradients = aligned_zeros(self._data.shape, self._data.dtype)
        return self._gradients


class Parameter(Stored):
    """A tensor that training changes.

    Args:
        data: the initial values; float64 stays float64, everything else becomes float32. Copied.
        requires_grad: whether gradients are computed for it; False freezes it.

    Attributes:
        data: the values, a NumPy view into the model's flat buffer. Assigning copies into it. Read
            it anew after `astype`, and after a step on a GPU, from which the values come back when
            this is read: a view that was taken before holds the old ones, and what is written into
            it is lost. One that is held when the model runs for the first time, and lays its
            parameters out, stays right: that parameter keeps its memory, apart from the others.
        grad: the gradient, a view of the same layout, or None. `backward` adds to it.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_requires_grad", "offset", "segment")

    def __init__(self, data: ArrayLike, *, requires_grad: bool = True) -> None:
        array = real_array("data", data)
        dtype = np.float64 if array.dtype == np.float64 else np.float32
        self._data: Array = np.array(array, dtype=dtype, order="C")
        self._grad: Array | None = None
        self._requires_grad = bool(requires_grad)
        self.segment: Segment | None = None
        self.offset = 0

    @property
    def data(self) -> Array:
        """The values."""
        segment = self.segment
        if segment is not None and segment.twin is not None:
            segment.twin.to_host()
        return self._data

    @data.setter
    def data(self, values: ArrayLike) -> None:
        array = real_array("data", values)
        if array.shape != self.shape:
            raise ShapeError(f"the parameter has shape {self.shape}, got {array.shape}")
        self.data[...] = array
        if self.segment is not None:
            self.segment.updates += 1

    @property
    def grad(self) -> Array | None:
        """The gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, values: ArrayLike | None) -> None:
        if values is None:
            self._grad = None
            return
        array = real_array("grad", values)
        if array.shape != self.shape:
            raise ShapeError(
                f"the parameter has shape {self.shape}, its gradient got {array.shape}"
            )
        if self._grad is None:
            self._grad = self._gradient_view()
        self._grad[...] = array

    def add_gradient(self, gradient: Array) -> None:
        """Add to the gradient; where there is none, set it."""
        if self._grad is None:
            self.grad = gradient
        else:
            self._grad += gradient

    def gradient_memory(self) -> tuple[Array, bool]:
        """Where the gradient lies, and whether there is one already, to be added to."""
        if self._grad is None:
            return self._gradient_view(), False
        return self._grad, True

    def take_gradient(self) -> None:
        """Say that the gradient's memory has been written."""
        if self._grad is None:
            self._grad = self._gradient_view()

    def holder(self) -> Any:
        """See `Stored.holder`."""
        if self.segment is None:
            flatten([self])
        return self.segment

    def twin_of(self, dtype: np.dtype[Any], make: Callable[[Array], Any]) -> tuple[Any, int]:
        """See `Stored.twin_of`."""
        if self.dtype != dtype:
            return None, 0
        if self.segment is None:
            flatten([self])
        segment = self.segment
        assert segment is not None
        if segment.twin is None:
            segment.twin = make(segment.data)
        return segment.twin, self.offset

    def _gradient_view(self) -> Array:
        if self.segment is None:
            flatten([self])
        assert self.segment is not None
        return self.segment.gradients[self.offset : self.offset + self.size].reshape(self.shape)

    def _is_held(self) -> bool:
        """Whether the program holds the values' array, or a view of it."""
        return sys.getrefcount(self._data) > 2  # this parameter's, and that of the question

    def _move_to(self, segment: Segment, offset: int) -> None:
        view = segment.data[offset : offset + self.size].reshape(self.shape)
        view[...] = self._data
        gradient = self._grad
        self._data, self._grad, self.offset = view, None, offset
        self.segment = segment  # last: with it, the parameter has been laid out
        if gradient is not None:
            self.grad = gradient

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """The shape."""
        return self._data.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._data.dtype

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed for it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if bool(value) != self._requires_grad:
            self._requires_grad = bool(value)
            if not value:
                self._grad = None
            note_change()

    def astype(self, dtype: DTypeLike) -> None:
        """Change the dtype. The values move to new memory; views taken before keep the old ones.
        The gradient goes."""
        self._data = self.data.astype(float_dtype(dtype))
        self._grad, self.segment, self.offset = None, None, 0
        note_change()

    def __getstate__(self) -> dict[str, Any]:
        gradient = None if self._grad is None else self._grad.copy()
        return {"data": self.data.copy(), "grad": gradient, "requires_grad": self._requires_grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Parameter.__init__(self, state["data"], requires_grad=state["requires_grad"])
        self._grad = state["grad"]  # it moves with the values when they are laid out

    def __repr__(self) -> str:
        frozen = "" if self._requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"


class Buffer(Stored):
    """A tensor that belongs to a model's state but is not trained, such as running statistics.

    Args:
        data: the initial values, copied. `Module.astype` converts floating dtypes, integers stay;
            in forward all are read in the model's dtype.
    """

    __slots__ = ("_data", "twin")

    def __init__(self, data: ArrayLike) -> None:
        self._data: Array = np.array(real_array("data", data), order="C")
        self.twin: Twin | None = None  # as that of a segment

    @property
    def data(self) -> Array:
        """The values. Assigning copies into them. For steps on a GPU, see `Parameter`."""
        if self.twin is not None:
            self.twin.to_host()
        return self._data

    @data.setter
    def data(self, values: ArrayLike) -> None:
        array = real_array("data", values)
        if array.shape != self.shape:
            raise ShapeError(f"the buffer has shape {self.shape}, got {array.shape}")
        self.data[...] = array

    def twin_of(self, dtype: np.dtype[Any], make: Callable[[Array], Any]) -> tuple[Any, int]:
        """See `Stored.twin_of`."""
        if self._data.dtype != dtype:
            return None, 0
        if self.twin is None:
            self.twin = make(self._data)
        return self.twin, 0

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """The shape."""
        return self._data.shape

    def astype(self, dtype: DTypeLike) -> None:
        """Change a floating dtype; integers stay."""
        if self._data.dtype.kind == "f":
            self._data, self.twin = self.data.astype(float_dtype(dtype)), None
            note_change()

    def __getstate__(self) -> Array:
        return self.data.copy()

    def __setstate__(self, state: Array) -> None:
        self._data, self.twin = state, None

    def __repr__(self) -> str:
        return f"Buffer(shape={self.shape}, dtype={self._data.dtype})"


def flatten(parameters: Iterable[Parameter]) -> None:
    """Lay parameters that are not in a flat buffer yet into one for each dtype; the others stay
    where they are, and so do those whose memory is held."""
    unique = list(dict.fromkeys(parameters))
    if all(parameter.segment is not None for parameter in unique):
        return
    with _layout_lock:  # another thread may be tracing the model that this one trains
        loose: dict[np.dtype[Any], list[Parameter]] = {}
        for parameter in unique:
            if parameter.segment is not None:
                continue
            if parameter._is_held():
                Segment([parameter], parameter._data.reshape(-1))
            else:
                loose.setdefault(parameter.dtype, []).append(parameter)
        for group in loose.values():
            Segment(group)
        note_change()  # what was bound to their memory is no longer right
