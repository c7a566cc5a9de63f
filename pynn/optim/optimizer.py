"""What all optimisers share: groups, flat state, clipping, saving."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from pynn.backends import kernels
from pynn.errors import FormatError, NonFiniteError, ShapeError
from pynn.graph import Array, Stored, real_array
from pynn.memory import aligned_zeros
from pynn.nn.parameter import Parameter, Segment, Twin, flatten

Parameters = Iterable[Parameter] | Iterable[dict[str, Any]]


class _Slots:
    """State of one parameter: arrays in its shape, views of flat buffers, and how many updates it
    has seen."""

    def __init__(self, arrays: dict[str, Array], steps: int = 0) -> None:
        self.arrays, self.steps = arrays, steps
        self.segment: Segment | None = None
        self.offset = 0


class Span(NamedTuple):
    """Neighbours in a flat buffer that are updated in one pass: data, gradient and state, all
    (size,)."""

    segment: Segment
    data: Array
    gradient: Array
    state: list[Any]  # arrays, or None
    steps: int  # updates so far, this one included


class FusedGroup:
    """A group of parameters whose updates are part of the backward pass.

    Attributes:
        arrays: for each parameter that gets a gradient, its data and its state.
        slots: the states of these parameters.
        segments: the flat buffers they lie in.
    """

    def __init__(self, optimizer: Optimizer, index: int, trained: Collection[Stored]) -> None:
        self._optimizer, self._index = optimizer, index
        self._group = optimizer.param_groups[index]
        self._groups = len(optimizer.param_groups)
        self._names = tuple(optimizer._slot_names(self._group))
        # The group, when it was last checked, and the settings of its next update, if they are
        # those of any.
        self._seen: dict[str, Any] = {}
        self._settings: tuple[Any, ...] | None = None
        self._limits = self.limits()
        self._all, self._params = optimizer._slots, list(self._group["params"])
        parameters = [parameter for parameter in self._params if parameter in trained]
        self.slots = [optimizer._slots[parameter] for parameter in parameters]
        self.segments = list(
            {id(p.segment): p.segment for p in parameters if p.segment is not None}.values()
        )
        self.arrays: dict[Parameter, list[Any]] = {
            parameter: [
                parameter.data,
                *(name and slots.arrays[name] for name in self._names),
            ]
            for parameter, slots in zip(parameters, self.slots, strict=True)
        }

    def twins(self, parameter: Parameter, make: Callable[[Array], Any]) -> list[Any]:
        """The copies on a device of a parameter's state arrays, whole ones of its segment's layout;
        None for one that the rule does without.

        Args:
            parameter: one of this group.
            make: makes a twin of an array, where there is none yet.
        """
        segment = parameter.segment
        assert segment is not None
        return [name and self._optimizer._twin(segment, name, make) for name in self._names]

    def limits(self) -> tuple[float | None, float | None]:
        """Of the gradients: clip_value and clip_norm."""
        return self._optimizer.clip_value, self._optimizer.clip_norm

    def next_settings(self, count: int) -> list[tuple[Any, ...]]:
        """The settings of the next updates, if nothing is changed meanwhile."""
        steps = self.slots[0].steps
        return [
            (self._optimizer._rule, *self._optimizer._settings(self._group, steps + number))
            for number in range(1, count + 1)
        ]

    def settings(self) -> tuple[Any, ...] | None:
        """The settings of the next update; None where the optimiser has changed since, or where
        they depend on the number of updates and its parameters have seen different ones.

        Raises:
            ValueError: a hyper-parameter has become senseless.
        """
        optimizer, group = self._optimizer, self._group
        groups = optimizer.param_groups
        if (
            optimizer._slots is not self._all
            or (optimizer.clip_value, optimizer.clip_norm) != self._limits
            or len(groups) != self._groups
            or groups[self._index] is not group
        ):
            return None
        if group != self._seen:
            self._settings = None
            names = tuple(optimizer._slot_names(group))
            if group["params"] != self._params or names != self._names:
                return None
            optimizer._check(group)
            self._seen = group | {"params": self._params}
        if self._settings is not None:
            return self._settings
        steps = self.slots[0].steps
        if any(slots.steps != steps for slots in self.slots):
            return None
        settings = (optimizer._rule, *optimizer._settings(group, steps + 1))
        if not optimizer._counts_updates:
            self._settings = settings
        return settings


class Optimizer:
    """Base of all optimisers. A subclass names its rule, its state and the rule's settings.

    Args:
        parameters: `model.parameters()`, or a list of groups: dictionaries with "params" and
            hyper-parameters of their own.
        defaults: hyper-parameters of groups that do not set them.
        clip_norm: scale all gradients down so that their joint Euclidean norm is at most this.
        clip_value: limit each element of the gradient to -clip_value ... clip_value.

    Attributes:
        param_groups: the groups; their hyper-parameters are read at every step.
    """

    def __init__(
        self,
        parameters: Parameters,
        defaults: dict[str, Any],
        *,
        clip_norm: float | None,
        clip_value: float | None,
    ) -> None:
        self.defaults = defaults
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self._check_limits()
        self.param_groups: list[dict[str, Any]] = []
        self._slots: dict[Parameter, _Slots] = {}
        self._buffers: dict[tuple[int, str], Array] = {}
        self._twins: dict[tuple[int, str], Twin] = {}  # of buffers, on a device
        if not isinstance(parameters, Iterable):
            raise TypeError(
                "an optimiser takes Parameters, such as model.parameters(), got "
                f"{type(parameters).__name__}"
            )
        entries: list[Any] = list(parameters)
        if not entries:
            raise ValueError("an optimiser needs at least one parameter")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with hyper-parameters of their own.

        Args:
            group: "params", one parameter or several, and any hyper-parameters; the others are the
                defaults.

        Raises:
            TypeError: there are no "params", something is not a Parameter, or a hyper-parameter is
                unknown.
            ValueError: a parameter is in a group already, or a value makes no sense.
        """
        if "params" not in group:
            raise TypeError(f"a group needs 'params', got only {', '.join(map(repr, group))}")
        params = group["params"]
        params = [params] if isinstance(params, Parameter) else list(params)
        unknown = set(group) - set(self.defaults) - {"params"}
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no hyper-parameter {', '.join(sorted(unknown))}"
            )
        known = {id(parameter) for parameter in self._parameters()}
        for parameter in params:
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    "an optimiser takes Parameters, such as model.parameters(), got "
                    f"{type(parameter).__name__}"
                )
            if id(parameter) in known:
                raise ValueError("a parameter is in two groups, or twice in one")
            known.add(id(parameter))
        complete = self.defaults | {
            name: value for name, value in group.items() if name != "params"
        }
        self._check(complete)
        self.param_groups.append({"params": params, **complete})

    def _check(self, group: Mapping[str, Any]) -> None:
        """Refuse hyper-parameters that make no sense."""
        for name in ("lr", "weight_decay"):
            value = group[name]
            if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise ValueError(f"{name} must be a number, 0 or more and finite, got {value!r}")

    def _check_limits(self) -> None:
        """Refuse limits of gradients that make no sense."""
        for name, value in (("clip_norm", self.clip_norm), ("clip_value", self.clip_value)):
            if value is not None and not (isinstance(value, Real) and float(value) > 0):
                raise ValueError(f"{name} must be positive, got {value!r}")

    # The kernel f"{_rule}_update" takes parameters, gradients, the state in the order of
    # `_slot_names`, and the settings.
    _rule: str
    _counts_updates = True  # whether the settings may depend on how many updates there were

    def __init_subclass__(cls) -> None:
        if "_settings" in vars(cls) and "_counts_updates" not in vars(cls):
            cls._counts_updates = True

    def _slot_names(self, group: Mapping[str, Any]) -> Sequence[str | None]:
        """The names of the state arrays of parameters of this group; None where the group does
        without one."""
        raise NotImplementedError

    def _settings(self, group: Mapping[str, Any], steps: int) -> tuple[Any, ...]:
        """The settings of the rule for the update number `steps`, from 1."""
        raise NotImplementedError

    def _parameters(self) -> Iterator[Parameter]:
        for group in self.param_groups:
            yield from group["params"]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all groups."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forget all gradients: each becomes None."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter._grad is not None:
                    parameter._grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises:
            ValueError: a hyper-parameter has become senseless.
            NonFiniteError: clip_norm is set and the norm is not finite. Nothing is changed in
                either case.
        """
        for group in self.param_groups:
            self._check(group)
        self._check_limits()
        self._lay_out()
        self.to_host()
        self._clip()
        update = getattr(kernels(), f"{self._rule}_update")
        for group in self.param_groups:
            for span in self._spans(group):
                span.segment.updates += 1
                update(span.data, span.gradient, *span.state, *self._settings(group, span.steps))

    def fuses(self) -> bool:
        """Whether a parameter can be updated before the gradients of the others are known."""
        return self.clip_norm is None and self.clip_value is None and self.updates_by_rule()

    def updates_by_rule(self) -> bool:
        """Whether an update is what the kernel of the rule does, and nothing else."""
        return type(self).step is Optimizer.step

    def fused_groups(self, trained: Collection[Stored]) -> list[FusedGroup]:
        """What an executor needs to update parameters while it computes their gradients.

        Args:
            trained: the parameters that get gradients.
        """
        self._check_limits()
        self._lay_out()
        return [
            FusedGroup(self, index, trained)
            for index, group in enumerate(self.param_groups)
            if any(parameter in trained for parameter in group["params"])
        ]

    def _twin(self, segment: Segment, name: str, make: Callable[[Array], Any]) -> Any:
        key = id(segment), name
        if key not in self._twins:
            self._twins[key] = make(self._buffers[key])
        return self._twins[key]

    def to_host(self) -> None:
        """Bring back the state that a device has changed."""
        for twin in self._twins.values():
            twin.to_host()

    def _lay_out(self) -> None:
        """Give each parameter's state a place of the same layout as the parameter's own."""
        flatten(self._parameters())
        moved = False
        for group in self.param_groups:
            names = [name for name in self._slot_names(group) if name is not None]
            for parameter in group["params"]:
                slots = self._slots.setdefault(parameter, _Slots({}))
                if (
                    slots.segment is parameter.segment
                    and slots.offset == parameter.offset
                    and all(n in slots.arrays for n in names)
                ):
                    continue
                self._place(parameter, slots, names)
                moved = True
        if moved:
            used = {id(slots.segment) for slots in self._slots.values()}
            self._buffers = {key: buffer for key, buffer in self._buffers.items() if key[0] in used}
            self._twins = {key: twin for key, twin in self._twins.items() if key[0] in used}

    def _place(self, parameter: Parameter, slots: _Slots, names: Sequence[str]) -> None:
        segment, begin, end = parameter.segment, parameter.offset, parameter.offset + parameter.size
        assert segment is not None
        self.to_host()
        for name in {*names, *slots.arrays}:
            key = (id(segment), name)
            if key not in self._buffers:
                self._buffers[key] = aligned_zeros(segment.data.shape, segment.data.dtype)
            view = self._buffers[key][begin:end].reshape(parameter.shape)
            old = slots.arrays.get(name)
            if old is not view:
                view[...] = 0 if old is None else old
            slots.arrays[name] = view
        slots.segment, slots.offset = segment, begin  # held: so its id stays its own

    def _spans(self, group: Mapping[str, Any]) -> Iterator[Span]:
        """The parameters of a group that have gradients, neighbours joined."""
        names = self._slot_names(group)
        pending: list[tuple[Segment, int, int, int]] = []
        for parameter in group["params"]:
            if parameter.grad is None or not parameter.requires_grad:
                continue
            slots = self._slots[parameter]
            slots.steps += 1
            segment, steps = parameter.segment, slots.steps
            assert segment is not None
            begin, end = parameter.offset, segment.end(parameter)
            if (
                pending
                and pending[-1][0] is segment
                and pending[-1][2] == begin
                and pending[-1][3] == steps
            ):
                pending[-1] = (segment, pending[-1][1], end, steps)
            else:
                pending.append((segment, begin, end, steps))
        for segment, begin, end, steps in pending:
            state = [name and self._buffers[id(segment), name][begin:end] for name in names]
            yield Span(segment, segment.data[begin:end], segment.gradients[begin:end], state, steps)

    def _clip(self) -> None:
        gradients = [
            parameter.grad.reshape(-1)
            for parameter in self._parameters()
            if parameter.grad is not None
        ]
        if self.clip_value is not None:
            for gradient in gradients:
                np.clip(gradient, -self.clip_value, self.clip_value, out=gradient)
        if self.clip_norm is not None:
            norm = math.sqrt(sum(kernels().sum_of_squares(gradient) for gradient in gradients))
            if not math.isfinite(norm):
                raise NonFiniteError(
                    f"the norm of the gradients is {norm}; the parameters were not changed"
                )
            if norm > self.clip_norm:
                for gradient in gradients:
                    np.multiply(gradient, self.clip_norm / norm, out=gradient)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on besides the parameters: copies.

        Returns:
            A dictionary with "groups", the hyper-parameters of each group; "state", for each
            parameter in order its arrays by name; and "steps", the number of updates of each.
        """
        self.to_host()
        parameters = list(self._parameters())
        empty = _Slots({})
        return {
            "groups": [
                {k: v for k, v in group.items() if k != "params"} for group in self.param_groups
            ],
            "state": [
                {
                    name: array.copy()
                    for name, array in self._slots.get(parameter, empty).arrays.items()
                }
                for parameter in parameters
            ],
            "steps": [self._slots.get(parameter, empty).steps for parameter in parameters],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, from an optimiser of the same kind, groups and
        parameter shapes.

        Raises:
            FormatError: it is no state of an optimiser, or the numbers of groups or parameters, or
                the names of hyper-parameters, differ.
            ShapeError: an array has not its parameter's shape. Nothing is changed in either case.
        """
        if missing := {"groups", "state", "steps"} - set(state):
            raise FormatError(
                f"the state is not that of an optimiser: it has no {', '.join(sorted(missing))}"
            )
        parameters = list(self._parameters())
        groups, arrays, steps = state["groups"], state["state"], state["steps"]
        if len(groups) != len(self.param_groups) or not len(arrays) == len(steps) == len(
            parameters
        ):
            raise FormatError(
                f"the state is of {len(groups)} groups and {len(arrays)} parameters, "
                f"this optimiser has {len(self.param_groups)} and {len(parameters)}"
            )
        for group in groups:
            if set(group) != set(self.defaults):
                raise FormatError(
                    f"the state has hyper-parameters {sorted(group)}, "
                    f"expected {sorted(self.defaults)}"
                )
            self._check(group)
        for number, (parameter, slots) in enumerate(zip(parameters, arrays, strict=True)):
            for name, array in slots.items():
                if np.shape(array) != parameter.shape:
                    raise ShapeError(
                        f"state {name!r} of parameter {number} must have shape "
                        f"{parameter.shape}, got {np.shape(array)}"
                    )
        try:
            taken = {
                parameter: _Slots(
                    {
                        name: real_array(name, array).astype(parameter.dtype)
                        for name, array in slots.items()
                    },
                    steps=operator.index(count),
                )
                for parameter, slots, count in zip(parameters, arrays, steps, strict=True)
            }
        except (TypeError, ValueError) as error:
            raise FormatError(f"the state is not that of an optimiser: {error}") from error
        if any(not 0 <= slots.steps < 2**63 for slots in taken.values()):
            raise FormatError(f"the state counts steps outside 0 ... 2**63 - 1: {list(steps)}")
        for group, values in zip(self.param_groups, groups, strict=True):
            group.update(values)
        self._slots, self._buffers, self._twins = taken, {}, {}

    def __getstate__(self) -> dict[str, Any]:
        self.to_host()
        state = self.__dict__.copy()
        state["_slots"] = {
            parameter: _Slots(
                {name: array.copy() for name, array in slots.arrays.items()}, steps=slots.steps
            )
            for parameter, slots in self._slots.items()
        }
        state["_buffers"], state["_twins"] = {}, {}
        return state

    def __repr__(self) -> str:
        options = ", ".join(
            f"{name}={value}" for name, value in self.param_groups[0].items() if name != "params"
        )
        return f"{type(self).__name__}({options})"
