"""What the operators of ONNX do, said in pynn's.

`RECORDED` has the operators on symbols, which become nodes of the graph that is traced; `KNOWN`
those on arrays that are known while tracing: constants, and what is computed from them and from
shapes.
Specification: https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pynn import ops
from pynn.errors import FormatError, PynnError
from pynn.graph import Array, Shape, Symbol, Variable
from pynn.nn.parameter import Buffer

# Arrays that are known while tracing are shapes and options: none grows beyond this.
_MOST_KNOWN = 1024


class Node(NamedTuple):
    """One node of the file; of its outputs pynn has the first."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]

    def refuse(self, problem: str) -> NoReturn:
        """Say what pynn cannot do here."""
        raise FormatError(f"{self.name} ({self.kind}): {problem}")


def short(value: float) -> float:
    """The shortest number that is this one in float32, in which ONNX has its options: 0.01, not
    0.009999999776482582, also for a float64 network."""
    return float(str(np.float32(value)))


class _Transposed(NamedTuple):
    """A matrix of weights, transposed; only products take it."""

    base: Variable


class Call:
    """A node with its operands, and what surrounds it."""

    def __init__(
        self,
        node: Node,
        operands: Sequence[Any],
        opset: int,
        training: bool = False,
        declared_batch: int | None = None,
        batch: Shape = (),
    ) -> None:
        self.node, self.operands, self.opset, self.training = node, operands, opset, training
        self.declared_batch, self.batch = declared_batch, batch

    @property
    def x(self) -> Any:
        """The first operand."""
        return self.operand(0)

    def operand(self, place: int) -> Any:
        """An operand, or None where it is absent."""
        return self.operands[place] if place < len(self.operands) else None

    def option(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)

    def known(self, place: int) -> Array | None:
        """An operand that must be a constant, or None where it is absent."""
        value = self.operand(place)
        if value is not None and not isinstance(value, np.ndarray):
            self.refuse(f"its input {self.node.inputs[place]!r} must be a constant")
        return value

    def number(self, place: int, default: float | None = None) -> Any:
        """A constant operand of one value."""
        value = self.known(place)
        if value is None:
            return default
        if value.size != 1:
            self.refuse(f"its input {self.node.inputs[place]!r} must be one value")
        return value.reshape(()).item()

    def numbers(self, place: int, attribute: str, since: int) -> list[int] | None:
        """Integers that are an attribute before an opset and an operand from it on."""
        if self.opset < since:
            value: list[int] | None = self.option(attribute)
            return value
        array = self.known(place)
        if array is None:
            return None
        if array.dtype.kind not in "iu" or array.ndim > 1:
            self.refuse(f"its input {self.node.inputs[place]!r} must be integers")
        return [int(number) for number in array.reshape(-1)]

    def refuse(self, problem: str) -> NoReturn:
        """Say what pynn cannot do here."""
        self.node.refuse(problem)

    def pair(self, name: str, default: int = 1) -> tuple[int, int]:
        """An attribute of two integers."""
        value = self.option(name, [default, default])
        if len(value) != 2:
            self.refuse(
                f"{name} must be two numbers, one for rows and one for columns, got {value}"
            )
        return int(value[0]), int(value[1])

    def axis(self, axis: int, axes: int) -> int:
        """An axis counted from 0."""
        if not -axes <= axis < axes:
            self.refuse(f"axis {axis} is out of range for {axes} axes")
        return axis % axes

    def require_images(self) -> None:
        """Refuse an input that has not shape (N, C, H, W)."""
        if not isinstance(self.x, Variable) or self.x.ndim != 4:
            self.refuse(f"expected images (N, C, H, W), got {_described(self.x)}")


def _described(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if hasattr(value, "shape") else "a transposed weight"


def evaluate(call: Call) -> Any:
    """What a node gives: a symbol, an array that is known, or a weight."""
    kind, operands = call.node.kind, call.operands
    if kind == "Shape":
        axes = range(call.x.ndim)[call.option("start", 0) : call.option("end", call.x.ndim)]
        return np.array([call.x.shape[axis] for axis in axes], np.int64)
    if kind in KNOWN and all(value is None or isinstance(value, np.ndarray) for value in operands):
        return compute(call)
    if kind not in RECORDED:
        call.refuse("supported on shapes and constants alone")
    if kind not in ("Gemm", "MatMul") and any(isinstance(v, _Transposed) for v in operands):
        call.refuse("transposed weights are supported in Gemm and MatMul alone")
    first = operands if kind in _EITHER else operands[:1]
    if not any(isinstance(value, Variable) for value in first):
        call.refuse("its input must be computed from the network's")
    return RECORDED[kind](call)


def compute(call: Call) -> Array:
    """An operator on arrays that are known."""
    if call.node.kind not in VIEWS and any(
        value is not None and value.size > _MOST_KNOWN for value in call.operands
    ):
        call.refuse(f"constants of more than {_MOST_KNOWN} values are not computed with")
    try:
        with np.errstate(all="ignore"):
            return np.asarray(KNOWN[call.node.kind](call))
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        if isinstance(error, PynnError):
            raise
        call.refuse(str(error))


def _padding(call: Call, kernel: Sequence[int], strides: tuple[int, int]) -> Any:
    """Padding as pynn has it."""
    auto = call.option("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return "same"
    if auto == "VALID":
        return 0
    if auto == "SAME_LOWER":
        dilations = call.pair("dilations")
        sides: list[int] = []
        for size, k, stride, dilation in zip(
            call.x.shape[2:], kernel, strides, dilations, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
            sides += [total - total // 2, total // 2]
        return tuple(sides)
    if auto != "NOTSET":
        call.refuse(f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {auto!r}")
    pads = call.option("pads", [0, 0, 0, 0])
    if len(pads) != 4 or min(pads) < 0:
        call.refuse(f"pads must be four numbers, 0 or more, got {pads}")
    top, left, bottom, right = pads
    return top, bottom, left, right


def _conv(call: Call) -> Any:
    call.require_images()
    w = call.operand(1)
    if w.ndim != 4:
        call.refuse(f"the kernels must have shape (O, C / group, KH, KW), got {tuple(w.shape)}")
    kernel, strides = call.option("kernel_shape", list(w.shape[2:])), call.pair("strides")
    if list(w.shape[2:]) != kernel or min(strides) < 1:
        call.refuse(
            f"kernel_shape {kernel} and strides {strides} do not fit kernels of shape "
            f"{tuple(w.shape)}"
        )
    return ops.conv2d(
        call.x, w, call.operand(2), stride=strides, padding=_padding(call, kernel, strides),
        dilation=call.pair("dilations"), groups=call.option("group", 1),
    )  # fmt: skip


def _pool(call: Call) -> dict[str, Any]:
    call.require_images()
    kernel, strides = call.pair("kernel_shape"), call.pair("strides")
    if call.pair("dilations") != (1, 1):
        call.refuse(f"pools have no dilations, got {call.pair('dilations')}")
    if min(strides) < 1:
        call.refuse(f"strides must be 1 or more, got {strides}")
    same = call.option("auto_pad", "NOTSET").startswith("SAME")
    return {
        "kernel_size": kernel,
        "stride": strides,
        "padding": _padding(call, kernel, strides),
        "ceil_mode": bool(call.option("ceil_mode", 0)) and not same,
    }


def _max_pool(call: Call) -> Any:
    return ops.max_pool2d(call.x, **_pool(call))


def _average_pool(call: Call) -> Any:
    counted = bool(call.option("count_include_pad", 0))
    return ops.avg_pool2d(call.x, **_pool(call), count_include_pad=counted)


def _global_average_pool(call: Call) -> Any:
    call.require_images()
    return ops.global_avg_pool2d(call.x)


def _global_max_pool(call: Call) -> Any:
    call.require_images()
    return ops.max_pool2d(call.x, call.x.shape[2:])


def _reduce_mean(call: Call) -> Any:
    axes = call.numbers(1, "axes", 18) or []
    if call.x.ndim != 4 or sorted(call.axis(axis, 4) for axis in axes) != [2, 3]:
        call.refuse(
            f"means are taken over rows and columns of images alone, axes [2, 3]; got {axes} for "
            f"{_described(call.x)}"
        )
    y = ops.global_avg_pool2d(call.x)
    return y if call.option("keepdims", 1) else ops.flatten(y)


def _gemm(call: Call) -> Any:
    a, b, c = call.x, call.operand(1), call.operand(2)
    alpha, beta = call.option("alpha", 1.0), call.option("beta", 1.0)
    transposed = bool(call.option("transB", 0))
    if call.option("transA", 0):
        call.refuse("its first input cannot be transposed: the batch axis must stay the first")
    if isinstance(b, _Transposed):
        b, transposed = b.base, not transposed
    if transposed and alpha == beta == 1 and c is not None and c.shape == b.shape[:1]:
        return ops.linear(a, b, c)
    y = ops.linear(a, b) if transposed else ops.matmul(a, b)
    if alpha != 1:
        y = y * alpha
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else c * beta)


def _matmul(call: Call) -> Any:
    a, b = call.operands
    if isinstance(a, _Transposed) or (isinstance(b, _Transposed) and not isinstance(a, Variable)):
        call.refuse("a transposed weight must be its second input, and no constant its first")
    return ops.linear(a, b.base) if isinstance(b, _Transposed) else ops.matmul(a, b)


def _batch_normalization(call: Call) -> Any:
    if call.option("training_mode", 0) or not call.option("spatial", 1):
        call.refuse("training_mode must be 0 and spatial 1; export the network for inference")
    x, weight, bias, mean, variance = call.operands
    return ops.batch_norm(
        x, mean, variance, weight, bias,
        training=call.training and isinstance(mean, Buffer),
        momentum=short(1 - call.option("momentum", 0.9)), eps=call.option("epsilon", 1e-5),
    )  # fmt: skip


def _dropout(call: Call) -> Any:
    if call.number(2, False):
        call.refuse("training_mode must be false; export the network for inference")
    p = call.option("ratio", 0.5) if call.opset < 12 else short(call.number(1, 0.5))
    return ops.dropout(call.x, p=p) if call.training and p else call.x


def _along_axis(function: Callable[..., Any]) -> Callable[[Call], Any]:
    def along_axis(call: Call) -> Any:
        x = call.x
        axis = call.axis(call.option("axis", -1 if call.opset >= 13 else 1), x.ndim)
        if call.opset >= 13 or axis == x.ndim - 1:
            return function(x, axis=axis)
        # Before opset 13, over all axes from this one on.
        joined = ops.reshape(x, (*x.shape[:axis], math.prod(x.shape[axis:])))
        return ops.reshape(function(joined, axis=axis), x.shape)

    return along_axis


# Differences from bounds up to this are within a rounding or two of what they came from.
_NEAR_BOUND = 16.0


def _at_least(x: Any, bound: float) -> Any:
    """The larger of each element and a bound, exactly: a maximum over pairs."""
    pairs = ops.pad2d(
        ops.reshape(x, (x.shape[0], math.prod(x.shape[1:]), 1, 1)), (0, 0, 0, 1), value=bound
    )
    return ops.reshape(ops.max_pool2d(pairs, (1, 2)), x.shape)


def _clip(call: Call) -> Any:
    if call.opset < 11:
        low, high = call.option("min"), call.option("max")
    else:
        low, high = call.number(1), call.number(2)
    y, largest = call.x, float(np.finfo(np.float32).max)
    low = -math.inf if low is None or low <= -largest else low
    high = math.inf if high is None or high >= largest else high
    if max((abs(bound) for bound in (low, high) if math.isfinite(bound)), default=0) > _NEAR_BOUND:
        y = _at_least(y, low) if low > -math.inf else y
        return _at_least(y * -1, -high) * -1 if high < math.inf else y
    if low > -math.inf:
        y = ops.relu(y) if low == 0 else ops.relu(y - low) + low
    return high - ops.relu(high - y) if high < math.inf else y


def _leaky_relu(call: Call) -> Any:
    return ops.leaky_relu(call.x, negative_slope=call.option("alpha", 0.01))


def _prelu(call: Call) -> Any:
    slope = call.operand(1)
    if isinstance(slope, np.ndarray) and slope.size == 1:
        return ops.leaky_relu(call.x, negative_slope=slope.item())
    above = ops.relu(call.x)
    return above + slope * (call.x - above)


def _pad(call: Call) -> Any:
    x = call.x
    mode = call.option("mode", "constant")
    pads = call.numbers(1, "pads", 11) or []
    value = call.option("value", 0.0) if call.opset < 11 else call.number(2, 0.0)
    axes = list(range(x.ndim))
    if call.operand(3) is not None:
        axes = [call.axis(axis, x.ndim) for axis in call.numbers(3, "axes", 0) or []]
    if mode != "constant" or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        call.refuse(f"the mode must be constant, got {mode!r}, for pads {pads} of axes {axes}")
    sides = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    if not any(pads):
        return x
    outside = any(any(pair) for axis, pair in sides.items() if axis < x.ndim - 2)
    if x.ndim != 4 or outside or min(pads) < 0:
        call.refuse(f"rows and columns of images alone are padded, got {pads} of axes {axes}")
    rows, columns = sides.get(2, (0, 0)), sides.get(3, (0, 0))
    return ops.pad2d(x, (*rows, *columns), value=value)


def _concat(call: Call) -> Any:
    return ops.concat(call.operands, axis=call.axis(call.option("axis", 1), call.x.ndim))


def _divide(call: Call) -> Any:
    divisor = call.known(1)
    assert divisor is not None
    with np.errstate(divide="ignore"):
        return call.x * (1.0 / divisor.astype(np.float64))


def _cast_symbol(call: Call) -> Any:
    if _DTYPES.get(call.option("to")) != call.x.dtype:
        call.refuse(f"a network has one dtype, {call.x.dtype}, and cannot be cast within")
    return call.x


# Shapes of views: by the shape before, the shape after.


def _flattened(call: Call) -> Shape:
    shape = tuple(call.x.shape)
    axis = call.option("axis", 1)
    axis = axis if axis == len(shape) else call.axis(axis, len(shape))
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _reshaped(call: Call) -> Shape:
    shape = tuple(call.x.shape)
    target = call.numbers(1, "", 0) or []
    if not call.option("allowzero", 0):
        if any(size == 0 and axis >= len(shape) for axis, size in enumerate(target)):
            call.refuse(f"{target} copies an axis that {_described(call.x)} has not")
        target = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    # Where the file fixes a batch size, each sample is treated as there.
    if isinstance(call.x, Symbol) and target[:1] == [call.declared_batch] != [None]:
        target[:1] = call.batch if shape[:1] == call.batch else target[:1]
    return tuple(target)


def _squeezed(call: Call) -> Shape:
    shape = tuple(call.x.shape)
    axes = call.numbers(1, "axes", 13)
    if axes is None:
        call.refuse("it must say which axes")
    counted = {call.axis(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in counted):
        call.refuse(f"axes {axes} of {_described(call.x)} are not all 1")
    return tuple(size for axis, size in enumerate(shape) if axis not in counted)


def _unsqueezed(call: Call) -> Shape:
    axes = call.numbers(1, "axes", 13) or []
    if len(axes) > 8:
        call.refuse(f"{len(axes)} new axes are too many")
    rank = len(call.x.shape) + len(axes)
    counted = {call.axis(axis, rank) for axis in axes}
    if len(counted) != len(axes):
        call.refuse(f"axes {axes} name one twice")
    old = iter(call.x.shape)
    return tuple(1 if axis in counted else next(old) for axis in range(rank))


def _view(shape_of: Callable[[Call], Shape]) -> Callable[[Call], Any]:
    def view(call: Call) -> Any:
        shape = shape_of(call)
        return call.x if shape == tuple(call.x.shape) else ops.reshape(call.x, shape)

    return view


def _known_view(shape_of: Callable[[Call], Shape]) -> Callable[[Call], Any]:
    return lambda call: call.x.reshape(shape_of(call))


def _permutation(call: Call) -> list[int]:
    axes = len(call.x.shape)
    order = call.option("perm", list(range(axes))[::-1])
    if sorted(order) != list(range(axes)):
        call.refuse(f"perm {order} is no order of the axes of {_described(call.x)}")
    return list(order)


def _transpose(call: Call) -> Any:
    x, order = call.x, _permutation(call)
    if not isinstance(x, Symbol):
        return _Transposed(x)
    # Axes of size 1 may go anywhere.
    moved = [axis for axis in order if axis == 0 or x.shape[axis] != 1]
    if moved != sorted(moved) or order[0] != 0:
        call.refuse(f"pynn does not transpose: perm {order} of {_described(x)} moves values")
    return _view(lambda call: tuple(x.shape[axis] for axis in order))(call)


# Operators on known arrays


def _sliced(call: Call) -> Array:
    if call.opset < 10:
        starts, ends, axes = (call.option(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends = (call.numbers(place, "", 0) or [] for place in (1, 2))
        axes, steps = (call.numbers(place, "", 0) for place in (3, 4))
    axes = list(range(len(starts))) if axes is None else axes
    slices = [slice(None)] * call.x.ndim
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        slices[call.axis(axis, call.x.ndim)] = slice(start, end, step)
    result: Array = call.x[tuple(slices)]
    return result


def _filled(call: Call) -> Array:
    shape = call.numbers(0, "", 0) or []
    value = call.option("value", np.zeros(1, np.float32))
    if min(shape, default=0) < 0 or math.prod(shape) > _MOST_KNOWN or len(shape) > 8:
        call.refuse(f"a constant of shape {shape} is not computed")
    return np.full(shape, value.reshape(-1)[0])


def _divided(call: Call) -> Array:
    a, b = call.operands
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not np.all(b):
        call.refuse("division by 0")
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)))


def _cast(call: Call) -> Array:
    dtype = _DTYPES.get(call.option("to"))
    if dtype is None:
        call.refuse(f"casts to type {call.option('to')} are not supported")
    result: Array = call.x.astype(dtype)
    return result


# The numbers of ONNX's types.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    11: np.dtype(np.float64),
}
# Operators that may have a constant as the first operand and a symbol as another.
_EITHER = {"Add", "Concat", "MatMul", "Mul", "Sub", "Sum"}
# Operands that are options, not weights.
OPTIONS = {"Clip": (1, 2), "Div": (1,), "Dropout": (1,), "Pad": (2,)}
# Operators that leave the values of their first operand as they are.
VIEWS = {"Cast", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

RECORDED: dict[str, Callable[[Call], Any]] = {
    "Add": lambda call: ops.add(*call.operands),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast_symbol,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _divide,
    "Dropout": _dropout,
    "Flatten": _view(_flattened),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "Identity": lambda call: call.x,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _along_axis(ops.log_softmax),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": lambda call: ops.mul(*call.operands),
    "Neg": lambda call: -call.x,
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": lambda call: ops.relu(call.x),
    "Reshape": _view(_reshaped),
    "Sigmoid": lambda call: ops.sigmoid(call.x),
    "Softmax": _along_axis(ops.softmax),
    "Squeeze": _view(_squeezed),
    "Sub": lambda call: call.operands[0] - call.operands[1],
    "Sum": lambda call: reduce(ops.add, call.operands),
    "Tanh": lambda call: ops.tanh(call.x),
    "Transpose": _transpose,
    "Unsqueeze": _view(_unsqueezed),
}
KNOWN: dict[str, Callable[[Call], Any]] = {
    "Add": lambda call: call.operands[0] + call.operands[1],
    "Cast": _cast,
    "Concat": lambda call: np.concatenate(call.operands, call.option("axis", 1)),
    "ConstantOfShape": _filled,
    "Div": _divided,
    "Flatten": _known_view(_flattened),
    "Gather": lambda call: np.take(call.x, call.operand(1), axis=call.option("axis", 0)),
    "Identity": lambda call: call.x,
    "Mul": lambda call: call.operands[0] * call.operands[1],
    "Reshape": _known_view(_reshaped),
    "Slice": _sliced,
    "Squeeze": _known_view(_squeezed),
    "Sub": lambda call: call.operands[0] - call.operands[1],
    "Transpose": lambda call: call.x.transpose(_permutation(call)),
    "Unsqueeze": _known_view(_unsqueezed),
}
SUPPORTED = {*RECORDED, *KNOWN, "Constant", "Shape"}
