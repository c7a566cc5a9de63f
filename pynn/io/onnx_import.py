"""ONNX files as modules.

Specification: https://onnx.ai/onnx/operators. Files are read as hostile: sizes are checked before
anything is allocated, and whatever is wrong becomes a FormatError that names the file.

A file is read into a `_Program`; forward of an `OnnxModel` evaluates it while it is traced. Values
are then symbols, parameters, buffers, or arrays that are known already.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pynn.errors import FormatError, MissingExtraError, PynnError, ShapeError
from pynn.graph import Array, Shape, Symbol
from pynn.io.onnx_export import BUFFERS, MAX_BYTES
from pynn.io.onnx_operators import (
    KNOWN,
    OPTIONS,
    SUPPORTED,
    VIEWS,
    Call,
    Node,
    compute,
    evaluate,
    short,
)
from pynn.nn.module import Module
from pynn.nn.parameter import Buffer, Parameter

_OLDEST_OPSET = 7  # from which on arrays broadcast as NumPy's do


def load_onnx(path: str | os.PathLike[str]) -> Module:
    """Read a network from an ONNX file.

    Args:
        path: the file, of opset 7 or newer. Weights in files of their own are read if these lie in
            the same folder, or below it.

    Returns:
        A module in evaluation mode that computes what the file says, for any batch size, also where
        the file fixes one. Floating initialisers are its parameters, under their names; statistics
        of BatchNormalization are buffers. After `train()` it trains: BatchNormalization then takes
        the statistics of the batch, Dropout drops.

    Raises:
        FormatError: the file is damaged, or has what pynn cannot do; the message names the node and
            lists the operators that pynn reads.
        MissingExtraError: the package onnx is not installed.
        OSError: the file cannot be read.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("ONNX files need onnx: pip install 'pynn-core[onnx]'") from error
    name = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise FormatError(f"{name}: {size} bytes are more than an ONNX file can have")
        content = file.read()
    try:
        model = OnnxModel(*_Reader(onnx, content, Path(path).parent).read())
        model.eval()
        model.trace_declared()
    except PynnError as error:
        raise FormatError(f"{name}: {str(error)[:1000]}") from error
    except Exception as error:  # of a damaged file protobuf and onnx raise many kinds
        reason = (str(error).splitlines() or [""])[0][:500] or type(error).__name__
        raise FormatError(f"{name}: not a valid ONNX file: {reason}") from error
    return model


class _Input(NamedTuple):
    """An input as the file declares it; None stands for a size, or a shape, that it leaves open."""

    name: str
    shape: tuple[int | None, ...] | None


class _Program(NamedTuple):
    """What a file says. `variables` are names of values and the attributes that hold them."""

    title: str
    opset: int
    dtype: np.dtype[Any]
    inputs: tuple[_Input, ...]
    nodes: tuple[Node, ...]
    variables: tuple[tuple[str, str], ...]
    constants: dict[str, Array]
    output: str

    @property
    def batch(self) -> int | None:
        """The batch size that the file fixes, if it does."""
        sizes = {declared.shape[0] for declared in self.inputs if declared.shape}
        return sizes.pop() if len(sizes) == 1 else None


# By name of a value, the name and the content of what trains or stays.
_Variables = Mapping[str, tuple[str, Parameter | Buffer]]


class OnnxModel(Module):
    """A network read from a file. Parameters and buffers are attributes named as the file's
    initialisers."""

    def __init__(self, program: _Program, variables: _Variables) -> None:
        self._program = program
        names = []
        for value, (wanted, variable) in variables.items():
            name = wanted
            while hasattr(self, name) or name.startswith(("_run_", "_program")):
                name = f"tensor_{name}"  # "training", say, is taken
            setattr(self, name, variable)
            names.append((value, name))
        self._program = program._replace(variables=tuple(names))

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of every module; without parameters and buffers, that of the file's inputs."""
        return super().dtype if self._program.variables else self._program.dtype

    def trace_declared(self) -> None:
        """Trace with the shapes that the file declares, if it does, so that errors come early."""
        shapes = [declared.shape for declared in self._program.inputs]
        if all(shape is not None and None not in shape[1:] for shape in shapes):
            self.trace(*((shape[0] or 1, *shape[1:]) for shape in shapes))  # type: ignore[index]

    def forward(self, *inputs: Any) -> Any:
        """Evaluate the file's graph."""
        program = self._program
        if len(inputs) != len(program.inputs):
            names = ", ".join(declared.name for declared in program.inputs)
            raise TypeError(
                f"the network has {len(program.inputs)} inputs, {names}; got {len(inputs)}"
            )
        values: dict[str, Any] = dict(program.constants)
        values |= {value: getattr(self, attribute) for value, attribute in program.variables}
        for declared, x in zip(program.inputs, inputs, strict=True):
            _require_declared(declared, x.shape)
            values[declared.name] = x
        graph, batch = inputs[0].graph, inputs[0].shape[:1]
        for node in program.nodes:
            operands = [values[name] if name else None for name in node.inputs]
            call = Call(node, operands, program.opset, self.training, program.batch, batch)
            with graph.within(f"{node.name} ({node.kind})"):
                values[node.output] = evaluate(call)
        output = values[program.output]
        if not isinstance(output, Symbol):
            raise FormatError(f"the output {program.output!r} does not depend on the input")
        return output

    def describe(self) -> str:
        """What the file holds, for `repr`."""
        program = self._program
        return f"{program.title!r}, {len(program.nodes)} nodes, opset {program.opset}"


def _require_declared(declared: _Input, shape: Shape) -> None:
    if declared.shape is None:
        return
    expected = declared.shape[1:]
    if len(shape) != len(declared.shape) or any(
        size is not None and size != given for size, given in zip(expected, shape[1:], strict=True)
    ):
        sizes = ", ".join("any" if size is None else str(size) for size in expected)
        raise ShapeError(
            f"the input {declared.name!r} must have shape (N, {sizes}), got {tuple(shape)}"
        )


# Reading


class _Reader:
    """A file's content as a program and variables."""

    def __init__(self, onnx: Any, content: bytes, folder: Path) -> None:
        self.onnx, self.folder = onnx, folder
        self.proto = onnx.ModelProto.FromString(content)
        self.opset = self._opset()
        self._require_supported()
        if self._inline_external():
            content = self.proto.SerializeToString()
        onnx.checker.check_model(content)

    def read(self) -> tuple[_Program, _Variables]:
        """What the file says, and what it holds."""
        graph = self.proto.graph
        if len(graph.output) != 1:
            names = ", ".join(output.name for output in graph.output)
            raise FormatError(f"pynn's modules have one output, and the file has {names or 'none'}")
        if len(graph.sparse_initializer):
            raise FormatError("sparse initialisers are not supported")
        output = graph.output[0].name
        nodes = self._needed_nodes(output)
        used = {output, *(name for node in nodes for name in node.inputs)}
        weights: dict[str, Array] = {}
        constants: dict[str, Array] = {}
        for tensor in graph.initializer:
            if tensor.name in used:
                array = self._array(tensor)
                (weights if array.dtype.kind == "f" else constants)[tensor.name] = array
        initialised = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in initialised]
        if not inputs:
            raise FormatError("the graph has no input")
        nodes, weights, constants, titles = _folded(nodes, weights, constants, output, self.opset)
        noted = self._buffers()
        statistics = {name for node in nodes for name in _statistics(node)}
        statistics |= {value for value, title in titles.items() if title in noted}
        variables: _Variables = {
            value: (titles[value], Buffer(array) if value in statistics else Parameter(array))
            for value, array in weights.items()
        }
        program = _Program(
            graph.name, self.opset, self._dtype(inputs, weights),
            tuple(self._input(value) for value in inputs), tuple(nodes), (), constants, output,
        )  # fmt: skip
        known = {*weights, *constants, *(declared.name for declared in program.inputs)}
        for node in nodes:
            for name in node.inputs:
                if name and name not in known:
                    node.refuse(f"its input {name!r} is a second output, which is not supported")
            known.add(node.output)
        if output not in known:
            raise FormatError(f"the output {output!r} is a second output, which is not supported")
        return program, variables

    def _opset(self) -> int:
        versions = [
            entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")
        ]
        newest = self.onnx.defs.onnx_opset_version()
        if len(versions) != 1 or not _OLDEST_OPSET <= versions[0] <= newest:
            found = ", ".join(map(str, versions)) or "none"
            raise FormatError(
                f"pynn and the installed onnx read opsets {_OLDEST_OPSET} to {newest}; the file "
                f"has {found}"
            )
        return int(versions[0])

    def _require_supported(self) -> None:
        for proto in self.proto.graph.node:
            if proto.domain in ("", "ai.onnx") and proto.op_type in SUPPORTED:
                continue
            kind = proto.op_type if proto.domain in ("", "ai.onnx") else (
                f"{proto.domain}.{proto.op_type}"
            )  # fmt: skip
            name = proto.name or ", ".join(proto.output)
            raise FormatError(
                f"{name[:100]} ({kind[:100]}): not supported; pynn reads "
                f"{', '.join(sorted(SUPPORTED))}"
            )

    def _buffers(self) -> set[str]:
        """The names that pynn itself has noted as buffers."""
        for entry in self.proto.metadata_props:
            if entry.key == BUFFERS:
                return {str(name) for name in json.loads(entry.value)}
        return set()

    def _needed_nodes(self, output: str) -> list[Node]:
        """The nodes that the output depends on."""
        needed, nodes = {output}, []
        for proto in reversed(self.proto.graph.node):
            if needed.isdisjoint(proto.output):
                continue
            name = proto.name or f"the node of {proto.output[0]!r}"
            attributes = {entry.name: self._attribute(name, entry) for entry in proto.attribute}
            node = Node(proto.op_type, name, tuple(proto.input), proto.output[0], attributes)
            needed.update(node.inputs)
            nodes.append(node)
        return nodes[::-1]

    def _attribute(self, node: str, entry: Any) -> Any:
        kinds = self.onnx.AttributeProto
        if entry.type == kinds.TENSOR:
            return self._array(entry.t)
        if entry.type == kinds.STRING:
            return entry.s.decode()
        if entry.type == kinds.FLOAT:
            return short(entry.f)
        if entry.type == kinds.INT:
            return entry.i
        if entry.type == kinds.INTS:
            return list(entry.ints)
        if entry.type == kinds.FLOATS:
            return [short(value) for value in entry.floats]
        raise FormatError(f"{node}: the attribute {entry.name!r} is of a kind not supported")

    def _input(self, value: Any) -> _Input:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return _Input(value.name, None)
        sizes = tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
        )
        if not sizes or any(size is not None and size < 0 for size in sizes):
            raise FormatError(f"the input {value.name!r} of shape {sizes} has no batch axis")
        return _Input(value.name, sizes)

    def _dtype(self, inputs: Sequence[Any], weights: Mapping[str, Array]) -> np.dtype[Any]:
        """The one dtype of the network."""
        kinds = self.onnx.TensorProto
        floats: dict[int, np.dtype[Any]] = {
            kinds.FLOAT: np.dtype(np.float32),
            kinds.DOUBLE: np.dtype(np.float64),
        }
        found: dict[str, np.dtype[Any]] = {}
        for value in inputs:
            kind = value.type.tensor_type.elem_type
            if kind not in floats:
                raise FormatError(
                    f"the input {value.name!r} must be of floats of 32 or 64 bits, got "
                    f"{_kind_name(self.onnx, kind)}"
                )
            found[value.name] = floats[kind]
        found |= {name: array.dtype for name, array in weights.items()}
        first = next(iter(found))
        for name, dtype in found.items():
            if dtype not in floats.values():
                raise FormatError(f"{name!r} is {dtype}; networks are of float32 or float64")
            if dtype != found[first]:
                raise FormatError(
                    f"{first!r} is {found[first]} but {name!r} is {dtype}; a network has one dtype"
                )
        return found[first]

    def _array(self, tensor: Any) -> Array:
        """A tensor of the file, checked."""
        kinds = self.onnx.TensorProto
        dtype, field = {
            kinds.FLOAT: ("<f4", "float_data"),
            kinds.DOUBLE: ("<f8", "double_data"),
            kinds.FLOAT16: ("<f2", None),
            kinds.INT32: ("<i4", "int32_data"),
            kinds.INT64: ("<i8", "int64_data"),
            kinds.BOOL: ("?", "int32_data"),
        }.get(tensor.data_type, (None, None))
        if dtype is None:
            kind = _kind_name(self.onnx, tensor.data_type)
            raise FormatError(f"the tensor {tensor.name!r} is {kind}, which is not supported")
        shape = tuple(tensor.dims)
        count = math.prod(shape)
        raw = tensor.HasField("raw_data")
        values = tensor.raw_data if raw or field is None else getattr(tensor, field)
        expected = count * np.dtype(dtype).itemsize if raw or field is None else count
        if min(shape, default=0) < 0 or len(values) != expected:
            raise FormatError(
                f"the tensor {tensor.name!r} of shape {shape} needs {expected} "
                f"{'bytes' if raw else 'values'}, found {len(values)}"
            )
        array = np.frombuffer(values, dtype) if raw or field is None else np.array(values, dtype)
        return array.reshape(shape).astype(np.dtype(dtype).newbyteorder("="), copy=False)

    def _inline_external(self) -> bool:
        """Take in the initialisers that lie in files of their own; whether there are any."""
        kinds = self.onnx.TensorProto
        found = False
        for tensor in self.proto.graph.initializer:
            if tensor.data_location == kinds.EXTERNAL:
                tensor.raw_data = self._external(tensor)
                tensor.ClearField("external_data")
                tensor.data_location = kinds.DEFAULT
                found = True
        return found

    def _external(self, tensor: Any) -> bytes:
        where = {entry.key: entry.value for entry in tensor.external_data}
        location, what = where.get("location", ""), f"the tensor {tensor.name!r}"
        folder = self.folder.resolve()
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder) or not file.is_file():
            raise FormatError(
                f"{what} lies in {location!r}, which is no file in the folder of the network"
            )
        offset, size = int(where.get("offset", "0")), file.stat().st_size
        length = int(where.get("length", str(size - offset)))
        if offset < 0 or length < 0 or offset + length > size or length > MAX_BYTES:
            raise FormatError(
                f"{what} is said to take {length} bytes from byte {offset} of {location!r}, which "
                f"has {size}"
            )
        with open(file, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)


def _kind_name(onnx: Any, kind: int) -> str:
    names: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return names.get(kind, f"of the unknown type {kind}")


def _statistics(node: Node) -> tuple[str, ...]:
    return node.inputs[3:5] if node.kind == "BatchNormalization" else ()


def _users(nodes: Sequence[Node]) -> dict[str, list[tuple[Node, int]]]:
    """By name of a value, the nodes that read it, and the places of it among their inputs."""
    users: dict[str, list[tuple[Node, int]]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            users.setdefault(name, []).append((node, place))
    return users


def _separated(
    nodes: list[Node], weights: dict[str, Array], output: str
) -> tuple[list[Node], dict[str, str]]:
    """Let each Identity of a weight be a weight of its own, under its own name: PyTorch merges
    parameters that have equal values when they are exported, such as those of fresh layers.

    Returns:
        The other nodes, and the names of weights by value.
    """
    copies = [node for node in nodes if node.kind == "Identity" and node.output != output]
    copied = {node.output for node in copies}
    read = {name for node in nodes if node.output not in copied for name in node.inputs} | {output}
    names = {name: name for name in weights if name in read}
    taken = set(names)
    for node in copies:
        weight = node.inputs[0]
        if weight in weights:
            weights[node.output] = weights[weight]
            names[node.output] = node.output if weight in taken else weight
            taken.add(names[node.output])
    left = [node for node in nodes if node.output not in weights]
    for name in [name for name in weights if name not in names]:
        del weights[name]
    return left, names


def _is_transposed_weight(node: Node, users: Sequence[tuple[Node, int]], array: Array) -> bool:
    """Whether a node transposes a matrix that products then take; they undo it."""
    return (
        node.kind == "Transpose"
        and array.ndim == 2
        and node.attributes.get("perm", [1, 0]) == [1, 0]
        and all(user.kind in ("MatMul", "Gemm") and place == 1 for user, place in users)
    )


def _folded(
    nodes: list[Node],
    weights: dict[str, Array],
    constants: dict[str, Array],
    output: str,
    opset: int,
) -> tuple[list[Node], dict[str, Array], dict[str, Array], dict[str, str]]:
    """Do what can be done once: a weight takes the shape in which it is used, constants are
    computed. Weights that are options, such as the bounds of Clip, become constants.

    Returns:
        The nodes that are left, weights and constants by value, and the names of weights by value.
    """
    users = _users(nodes)
    for name in list(weights):
        uses = users.get(name, [])
        if name != output and all(place in OPTIONS.get(user.kind, ()) for user, place in uses):
            constants[name] = weights.pop(name)
    nodes, names = _separated(nodes, weights, output)
    users = _users(nodes)
    left = []
    for node in nodes:
        if node.kind == "Constant":
            constants[node.output] = _constant(node)
            continue
        first, rest = node.inputs[:1], [name for name in node.inputs[1:] if name]
        weight = weights.get(first[0]) if first else None
        if node.kind in VIEWS and weight is not None and all(name in constants for name in rest):
            if _is_transposed_weight(node, users.get(node.output, ()), weight):
                left.append(node)
                continue
            if len(users[first[0]]) > 1 or first[0] == output:
                node.refuse(f"the weight {first[0]!r} is used in more than one shape")
            operands = [weight, *(constants[name] if name else None for name in node.inputs[1:])]
            del weights[first[0]]
            weights[node.output] = compute(Call(node, operands, opset))
            names[node.output] = names.pop(first[0])
        elif node.kind in KNOWN and all(name in constants for name in node.inputs if name):
            operands = [constants[name] if name else None for name in node.inputs]
            constants[node.output] = compute(Call(node, operands, opset))
        else:
            left.append(node)
    return left, weights, constants, names


def _constant(node: Node) -> Array:
    for name, dtype in (
        ("value", None), ("value_float", np.float32), ("value_floats", np.float32),
        ("value_int", np.int64), ("value_ints", np.int64),
    ):  # fmt: skip
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    return node.refuse(f"a constant must be numbers, got {', '.join(node.attributes) or 'nothing'}")
