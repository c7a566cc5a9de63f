"""What a model is made of: the shape after each layer, and how many parameters it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pynn.graph import Shape
from pynn.nn.module import Module
from pynn.nn.parameter import Parameter


class Row(NamedTuple):
    """One node: its place, operator, output shape (without the batch) and the parameters first used
    there."""

    path: str
    operator: str
    shape: Shape
    parameters: int


class Summary(NamedTuple):
    """A table that prints itself.

    Attributes:
        rows: one for each node, in order of running.
        parameters: the number of all parameters.
        trainable: the number of those that are not frozen.
    """

    input_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable: int

    def __str__(self) -> str:
        table = [
            ("layer", "operator", "output shape", "parameters"),
            ("input", "", str(self.input_shape), ""),
        ]
        table += [
            (
                row.path,
                row.operator,
                str(row.shape),
                f"{row.parameters:,}" if row.parameters else "",
            )
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in table
        ]
        rule = "-" * max(len(line) for line in lines)
        total = f"{self.parameters:,} parameters, {self.trainable:,} of them trainable"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])


def summary(model: Module, input_shape: Sequence[int]) -> Summary:
    """Trace a model and list its nodes.

    Args:
        model: any module.
        input_shape: shape of one sample, without the batch, such as (1, 28, 28).

    Returns:
        A Summary; `print` shows it as a table.
    """
    graph = model.trace((2, *input_shape)).graph  # in training, batch_norm needs two values
    seen: set[int] = set()
    rows = []
    for node in graph.nodes:
        count = 0
        for number in node.inputs:
            variable = graph.variables.get(number) if number is not None else None
            if isinstance(variable, Parameter) and id(variable) not in seen:
                seen.add(id(variable))
                count += variable.size
        rows.append(Row(node.path, node.operator.name, graph.shapes[node.output][1:], count))
    parameters = list(model.parameters())
    return Summary(
        input_shape=tuple(input_shape),
        rows=tuple(rows),
        parameters=sum(parameter.size for parameter in parameters),
        trainable=sum(parameter.size for parameter in parameters if parameter.requires_grad),
    )
