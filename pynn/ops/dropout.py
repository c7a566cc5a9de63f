"""Random operators. Their masks are functions of (seed, step, node, sample, element): see
`pynn.random`."""

from __future__ import annotations

from typing import Any

from pynn import _core
from pynn.arguments import share
from pynn.backends import kernels
from pynn.graph import Array, Operator, Shape, Variable, record, register
from pynn.random import get_seed


def dropout(
    x: Any,
    *,
    p: float = 0.5,
    seed: int | None = None,
    step: int = 0,
    node: int = 0,
    first_sample: int = 0,
) -> Any:
    """Set each element to zero with probability p and multiply the others by 1 / (1 - p).

    Args:
        x: shape (N, ...), float32 or float64.
        p: probability of dropping, 0 ... 1.
        seed, step, node, first_sample: key and counter of Philox4x32-10, for arrays; seed None is
            the one of `pynn.manual_seed`. In forward they follow from the training step and the
            place in the graph.

    Returns:
        y, in the shape of x. The gradient is the same function, of dy, with the same seed, step,
        node and first_sample.
    """
    if isinstance(x, Variable):
        return record("dropout", (x,), {"p": p})
    return kernels().dropout(x, p, get_seed() if seed is None else seed, step, node, first_sample)


def dropout_backward(
    dy: Array, *, p: float = 0.5, seed: int, step: int = 0, node: int = 0, first_sample: int = 0
) -> Array:
    """Gradient of `dropout` with the same arguments: the same mask on dy."""
    dx: Array = kernels().dropout(dy, p, seed, step, node, first_sample)
    return dx


def drop_block2d(
    x: Any,
    *,
    p: float = 0.1,
    block_size: int = 7,
    seed: int | None = None,
    step: int = 0,
    node: int = 0,
    first_sample: int = 0,
) -> Any:
    """Set blocks of each channel to zero (Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018).

    About a share p of the elements is dropped, in squares of block_size; what is left of a sample
    is multiplied by (elements / elements left), so that samples stay independent of each other.

    Args:
        x: shape (N, C, H, W), float32 or float64.
        p: share to drop, 0 ... 1.
        block_size: side of a block, at most H and W (a larger one is cut to them).
        seed, step, node, first_sample: as for `dropout`.

    Returns:
        y, in the shape of x. The gradient is the same function, of dy.
    """
    if isinstance(x, Variable):
        return record("drop_block2d", (x,), {"p": p, "block_size": block_size})
    return kernels().drop_block2d(
        x, p, block_size, get_seed() if seed is None else seed, step, node, first_sample
    )


def drop_block2d_backward(
    dy: Array,
    *,
    p: float = 0.1,
    block_size: int = 7,
    seed: int,
    step: int = 0,
    node: int = 0,
    first_sample: int = 0,
) -> Array:
    """Gradient of `drop_block2d` with the same arguments: the same mask and scale on dy."""
    dx: Array = kernels().drop_block2d(dy, p, block_size, seed, step, node, first_sample)
    return dx


def _dropout_shape(x: Shape, *, p: float) -> Shape:
    share("p", p)
    return x


register(
    Operator(
        name="dropout",
        shape=_dropout_shape,
        forward=lambda k, x, **attributes: (k.dropout(x, **attributes),),
        backward=lambda k, dy, inputs, outputs, needs, **attributes: (k.dropout(dy, **attributes),),
        random=True,
    )
)
register(
    Operator(
        name="drop_block2d",
        shape=_core.drop_block2d_shape,
        forward=lambda k, x, **attributes: (k.drop_block2d(x, **attributes),),
        backward=lambda k, dy, inputs, outputs, needs, **attributes: (
            k.drop_block2d(dy, **attributes),
        ),
        random=True,
    )
)
