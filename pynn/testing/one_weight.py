"""The gradient one weight at a time: the slow way that a backward pass replaces, to compare their
costs."""

from __future__ import annotations

from collections.abc import Iterable

from pynn import ops
from pynn.graph import Array
from pynn.nn.layers import Linear
from pynn.nn.losses import Loss


def derivative(layer: Linear, loss: Loss, x: Array, y: Array, index: tuple[int, int]) -> float:
    """The derivative of the loss of a dense layer with respect to one of its weights.

    Nothing is shared with other weights: the forward pass is run for this one.

    Args:
        layer: the whole model, such as a softmax regression.
        loss: of its output and y.
        x: (N, in_features), in the dtype of the layer.
        y: the target, (N, ...).
        index: of the weight, (output, input).
    """
    bias = None if layer.bias is None else layer.bias.data
    output = ops.linear(x, layer.weight.data, bias)
    _, dy = loss.value_and_gradient(output, y)
    return float(dy[:, index[0]] @ x[:, index[1]])


def descend_one_by_one(
    layer: Linear, loss: Loss, x: Array, y: Array, indices: Iterable[tuple[int, int]], *, lr: float
) -> None:
    """Update some weights of a dense layer in turn, each by its own derivative; arguments as those
    of `derivative`, with the learning rate lr."""
    for index in indices:
        layer.weight.data[index] -= lr * derivative(layer, loss, x, y, index)
