"""Models as ONNX files.

Specification: https://onnx.ai/onnx/operators. `_TRANSLATIONS` has one entry for each operator.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pynn import _core
from pynn.errors import FormatError, MissingExtraError, ShapeError
from pynn.graph import Array, Graph, Node, Shape
from pynn.io.atomic import replacing
from pynn.nn.module import Module, evaluating

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
MAX_BYTES = 2**31 - 1  # protobuf's own limit
BUFFERS = "pynn.buffers"  # metadata: names of initialisers that training leaves alone
_BATCH = "batch"
_BATCHES = (2, 3)  # what holds for both, and for a single sample, is taken to hold for all


def export_onnx(
    model: Module,
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
) -> None:
    """Write what a model does in evaluation mode to an ONNX file, for any batch size.

    The file has opset 17. Its inputs are called x (x0, x1, ... where there are several), its output
    y, the batch axis "batch"; parameters and buffers are initialisers under their names in the
    model. It has passed onnx.checker's full check before it takes path's place. Dropout leaves no
    trace in it. The eps of batch_norm is rounded to float32, also that of a float64 model.

    Args:
        model: any module made of pynn's own operators, float32 or float64. Few run times have
            convolutions in float64.
        path: the file, replaced whole or not at all.
        input_shape: shape of one sample, without the batch, such as (1, 28, 28); for a model of
            several inputs a sequence of such shapes.

    Raises:
        FormatError: ONNX cannot say it: an operator registered from Python or a library; one that
            draws, or takes the statistics of the batch, in evaluation mode too; a forward that
            depends on the batch size; parameters of 2 GB or more.
        MissingExtraError: the package onnx is not installed.
        ShapeError: an operator refuses the shape.
        OSError: the file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("ONNX files need onnx: pip install 'pynn-core[onnx]'") from error
    samples = _sample_shapes(input_shape)
    with evaluating(model):
        graph, other = (
            model.trace(*((size, *shape) for shape in samples)).graph for size in _BATCHES
        )
        _require_any_batch(graph, other)
        with contextlib.suppress(ShapeError):  # a model may refuse a single sample
            _require_any_batch(graph, model.trace(*((1, *shape) for shape in samples)).graph)
    proto = _Writer(model, graph, other, onnx).model()
    content = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    with replacing(path) as file:
        file.write(content)


def _sample_shapes(input_shape: Sequence[int] | Sequence[Sequence[int]]) -> list[Shape]:
    try:
        several = bool(input_shape) and all(isinstance(entry, Sequence) for entry in input_shape)
        shapes: Any = input_shape if several else [input_shape]
        return [tuple(index(size) for size in shape) for shape in shapes]
    except TypeError:
        raise TypeError(
            "input_shape must be the shape of one sample, such as (1, 28, 28), or a list of such "
            f"shapes, got {input_shape!r}"
        ) from None


def _require_any_batch(graph: Graph, other: Graph) -> None:
    """Both graphs, of two batch sizes, do the same with each sample."""
    problem = "forward does something else for another batch size, which an ONNX file cannot"
    for a, b in zip(graph.nodes, other.nodes, strict=False):
        same_options = a.operator.name == "reshape" or a.attributes == b.attributes
        if (a.operator, a.inputs, a.output) != (b.operator, b.inputs, b.output) or not same_options:
            raise FormatError(f"{a.path}: {problem}")
        if (
            a.operator.name == "reshape"
            and graph.shapes[a.output][1:] != other.shapes[b.output][1:]
        ):
            raise FormatError(f"{a.path}: {problem}")
    if len(graph.nodes) != len(other.nodes) or graph.constants.keys() != other.constants.keys():
        raise FormatError(f"model: {problem}")
    for number, constant in graph.constants.items():
        if not np.array_equal(
            constant, other.constants[number], equal_nan=constant.dtype.kind == "f"
        ):
            user = next(node for node in graph.nodes if number in node.inputs)
            raise FormatError(f"{user.path}: a constant depends on the batch size; {problem}")


class _Call(NamedTuple):
    """A node of the graph on its way into the file. `inputs` are names, "" where one is absent."""

    operator: str
    place: str
    inputs: list[str]
    shapes: list[Shape | None]
    output: str
    output_shape: Shape
    attributes: dict[str, Any]


class _Writer:
    """An ONNX graph that grows node by node."""

    proto: onnx.ModelProto
    nodes: list[onnx.NodeProto]

    def __init__(self, model: Module, graph: Graph, other: Graph, onnx: Any) -> None:
        self.graph, self.other, self.onnx = graph, other, onnx
        self.title = type(model).__name__
        self.proto, self.nodes = onnx.ModelProto(), []
        self.bytes = 0
        self.taken: set[str] = set()
        self.names: dict[int, str] = {}
        self.statistics: set[str] = set()  # buffers that batch_norm reads
        self.buffers: list[str] = []
        self._add_variables(model)

    def _add_variables(self, model: Module) -> None:
        numbers = {id(variable): number for number, variable in self.graph.variables.items()}
        buffers = [(name, buffer) for name, buffer in model.named_buffers()]
        for name, variable in [*model.named_parameters(), *buffers]:
            number = numbers.get(id(variable))
            if number is None or not self._is_read(number):
                continue
            self.names[number] = self.unique(name)
            self.initialiser(self.names[number], np.asarray(variable.data, self.graph.dtype))
        self.buffers = [
            self.names[numbers[id(b)]] for _, b in buffers if numbers.get(id(b)) in self.names
        ]

    def _is_read(self, number: int) -> bool:
        """Whether a value is read by anything but batch_norm's count of batches."""
        return number == self.graph.output or any(
            number in (node.inputs[:5] if node.operator.name == "batch_norm" else node.inputs)
            for node in self.graph.nodes
        )

    def unique(self, wanted: str) -> str:
        """A name that nothing has yet: the wanted one, or with a number after it."""
        name, count = wanted, 0
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def initialiser(self, name: str, array: Array) -> str:
        """Keep an array under a name."""
        self.bytes += array.nbytes
        if self.bytes > MAX_BYTES:
            raise FormatError(
                f"the parameters of this {self.title} take 2 GB or more, which an ONNX file cannot "
                "hold; pynn.io.save writes safetensors of any size"
            )
        self.proto.graph.initializer.add(  # in place: helpers would copy it three times
            name=name,
            dims=array.shape,
            data_type=self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            raw_data=array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(),
        )
        return name

    def constant(self, wanted: str, array: Array) -> str:
        """A node that gives an array; unlike an initialiser it is no parameter to who reads it."""
        name = self.unique(wanted)
        self.add("Constant", [], name, value=self.onnx.numpy_helper.from_array(array))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an ONNX node, called as its output."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        )
        return output

    def model(self) -> onnx.ModelProto:
        """The whole file."""
        graph, inputs = self.graph, []
        for place, number in enumerate(graph.inputs):
            self.names[number] = self.unique("x" if len(graph.inputs) == 1 else f"x{place}")
            inputs.append(self._value(number))
        self.names[-1] = self.unique("y")
        for number, array in graph.constants.items():
            self.names[number] = self.constant("constant", np.asarray(array, graph.dtype))
        for node in graph.nodes:
            self._translate(node)
        self.add("Identity", [self.names[graph.output]], self.names[-1])
        if graph.output in {node.output for node in graph.nodes}:
            self._call_last_output_y()
        proto = self.proto
        proto.ir_version = IR_VERSION
        proto.opset_import.add(domain="", version=OPSET)
        proto.producer_name, proto.producer_version = "pynn", _core.__version__
        proto.graph.name = self.title
        proto.graph.input.extend(inputs)
        proto.graph.output.append(self._value(graph.output, -1))
        proto.graph.node.extend(self.nodes)
        buffers = [name for name in self.buffers if name not in self.statistics]
        if buffers:
            proto.metadata_props.add(key=BUFFERS, value=json.dumps(buffers))
        return proto

    def _call_last_output_y(self) -> None:
        """Let the node that makes the output give it its name, in the place of an Identity."""
        identity = self.nodes.pop()
        before, y = identity.input[0], identity.output[0]
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [y if name == before else name for name in names]

    def _value(self, number: int, name: int | None = None) -> onnx.ValueInfoProto:
        sizes = [
            a if a == b else (_BATCH if (a, b) == _BATCHES else None)
            for a, b in zip(self.graph.shapes[number], self.other.shapes[number], strict=True)
        ]
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(self.graph.dtype)
        name = number if name is None else name
        return self.onnx.helper.make_tensor_value_info(self.names[name], kind, sizes)  # type: ignore[no-any-return]

    def _translate(self, node: Node) -> None:
        operator, place = node.operator.name, node.path.split(" (")[0]
        if operator not in _TRANSLATIONS:
            if node.operator.python or node.operator.library is not None:
                raise FormatError(
                    f"{node.path}: {operator} is an operator of your own, which ONNX does not "
                    "know; for the export compute it with operators of pynn"
                )
            raise FormatError(
                f"{node.path}: {operator} has no counterpart in ONNX that pynn writes"
            )
        self.names[node.output] = output = self.unique(place)
        call = _Call(
            operator,
            node.path,
            ["" if number is None else self.names.get(number, "") for number in node.inputs],
            [None if number is None else self.graph.shapes[number] for number in node.inputs],
            output,
            self.graph.shapes[node.output],
            node.attributes,
        )
        _TRANSLATIONS[operator](self, call)


def _plain(kind: str) -> Callable[[_Writer, _Call], None]:
    """The translation of an operator that ONNX has under another name, with the same attributes."""

    def translate(w: _Writer, call: _Call) -> None:
        w.add(kind, call.inputs, call.output, **call.attributes)

    return translate


def _linear(w: _Writer, call: _Call) -> None:
    x, weight, bias = call.inputs
    if len(call.output_shape) == 2:
        w.add("Gemm", [x, weight, bias], call.output, transB=1)
        return
    columns = w.add("Transpose", [weight], w.unique(f"{call.output}.columns"), perm=[1, 0])
    if not bias:
        w.add("MatMul", [x, columns], call.output)
        return
    product = w.add("MatMul", [x, columns], w.unique(f"{call.output}.product"))
    w.add("Add", [product, bias], call.output)


def _pads(sides: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = sides
    return [top, left, bottom, right]


def _conv2d(w: _Writer, call: _Call) -> None:
    x, weight, b = call.shapes
    assert x is not None
    assert weight is not None
    _, strides, sides, dilations = _core.conv2d_geometry(x, weight, b, **call.attributes)
    w.add(
        "Conv", call.inputs, call.output, kernel_shape=weight[2:], strides=strides,
        pads=_pads(sides), dilations=dilations, group=call.attributes["groups"],
    )  # fmt: skip


def _pool(call: _Call, **attributes: Any) -> tuple[dict[str, Any], list[int], list[int]]:
    """Attributes; padding [top, left, bottom, right]; and how far ceil_mode reaches beyond that.

    Said by padding, since run times differ in what ceil_mode means."""
    x = call.shapes[0]
    assert x is not None
    shape, strides, sides, kernel = _core.pool2d_geometry(x, **attributes)
    top, bottom, left, right = sides
    reach = [
        max((positions - 1) * stride + size - padded, 0)
        for positions, stride, size, padded in zip(
            shape[2:], strides, kernel, (x[2] + top + bottom, x[3] + left + right), strict=True
        )
    ]
    return {"kernel_shape": kernel, "strides": strides}, _pads(sides), [0, 0, *reach]


def _max_pool2d(w: _Writer, call: _Call) -> None:
    options, pads, reach = _pool(call, **call.attributes)
    pads = [a + b for a, b in zip(pads, reach, strict=True)]
    w.add("MaxPool", call.inputs, call.output, pads=pads, **options)


def _avg_pool2d(w: _Writer, call: _Call) -> None:
    attributes = dict(call.attributes)
    count_padding = attributes.pop("count_include_pad")
    options, pads, reach = _pool(call, **attributes)
    x = call.inputs[0]
    if count_padding and any(pads) and any(reach):
        # Padding counts in the mean and what ceil_mode reaches beyond it does not.
        sides = w.constant(f"{call.output}.pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]]))
        x = w.add("Pad", [x, sides], w.unique(f"{call.output}.padded"))
        pads, count_padding = reach, False
    elif any(reach):
        pads, count_padding = [a + b for a, b in zip(pads, reach, strict=True)], False
    w.add(
        "AveragePool", [x], call.output, pads=pads, count_include_pad=int(count_padding), **options
    )


def _batch_norm(w: _Writer, call: _Call) -> None:
    if call.attributes["training"]:
        raise FormatError(
            f"{call.place}: batch_norm uses the statistics of the batch in evaluation mode too; an "
            "ONNX file needs running ones: pass training=self.training"
        )
    x, mean, variance, weight, bias = call.inputs[:5]
    channels = (call.output_shape[1],)
    weight = weight or w.constant(f"{call.output}.weight", np.ones(channels, w.graph.dtype))
    bias = bias or w.constant(f"{call.output}.bias", np.zeros(channels, w.graph.dtype))
    w.statistics |= {mean, variance}
    w.add(
        "BatchNormalization", [x, weight, bias, mean, variance], call.output,
        epsilon=call.attributes["eps"], momentum=1 - call.attributes["momentum"],
    )  # fmt: skip


def _reshape(w: _Writer, call: _Call) -> None:
    sizes = call.output_shape[1:]
    if 0 in sizes:
        raise FormatError(
            f"{call.place}: samples of shape {sizes} have no values, which Reshape cannot say"
        )
    target = w.constant(f"{call.output}.shape", np.array([0, *sizes]))  # 0: the batch, as it comes
    w.add("Reshape", [call.inputs[0], target], call.output)


def _flatten(w: _Writer, call: _Call) -> None:
    if call.attributes["start_axis"] == 1:
        w.add("Flatten", call.inputs, call.output, axis=1)
    else:
        _reshape(w, call)


def _pad2d(w: _Writer, call: _Call) -> None:
    x = call.shapes[0]
    assert x is not None
    padding = call.attributes["padding"]
    one_pixel = (x[1], x[1], 1, 1)  # the sides are those of a convolution with such kernels
    sides = _core.conv2d_geometry(x, one_pixel, None, 1, padding, 1, 1)[2]
    top, left, bottom, right = _pads(sides)
    pads = w.constant(f"{call.output}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    value = w.constant(f"{call.output}.value", np.array(call.attributes["value"], w.graph.dtype))
    w.add("Pad", [call.inputs[0], pads, value], call.output)


def _random(w: _Writer, call: _Call) -> None:
    layer = {"dropout": "nn.Dropout", "drop_block2d": "nn.DropBlock2d"}[call.operator]
    raise FormatError(
        f"{call.place}: {call.operator} draws in evaluation mode too, which an ONNX file cannot; "
        f"use {layer}, or record it only while self.training"
    )


def _leaky_relu(w: _Writer, call: _Call) -> None:
    slope = call.attributes["negative_slope"]
    if w.graph.dtype == np.float32 or float(np.float32(slope)) == slope:
        w.add("LeakyRelu", call.inputs, call.output, alpha=slope)
        return
    exact = w.constant(f"{call.output}.slope", np.array([slope]))  # attributes are float32
    w.add("PRelu", [*call.inputs, exact], call.output)


_TRANSLATIONS: dict[str, Callable[[_Writer, _Call], None]] = {
    "add": _plain("Add"),
    "avg_pool2d": _avg_pool2d,
    "batch_norm": _batch_norm,
    "bias": _plain("Add"),
    "concat": _plain("Concat"),
    "conv2d": _conv2d,
    "drop_block2d": _random,
    "dropout": _random,
    "flatten": _flatten,
    "global_avg_pool2d": _plain("GlobalAveragePool"),
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "log_softmax": _plain("LogSoftmax"),
    "matmul": _plain("MatMul"),
    "max_pool2d": _max_pool2d,
    "mul": _plain("Mul"),
    "pad2d": _pad2d,
    "relu": _plain("Relu"),
    "reshape": _reshape,
    "sigmoid": _plain("Sigmoid"),
    "softmax": _plain("Softmax"),
    "tanh": _plain("Tanh"),
}
