"""Operators in Python: two functions on NumPy arrays, called in their place in the graph on every
back end."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from importlib import import_module
from operator import index
from typing import Any

import numpy as np

from pynn.errors import ShapeError
from pynn.graph import OPERATORS, REGISTERING, Array, Operator, Shape, Variable, record
from pynn.graph import register as register_operator

REGISTERED: dict[str, Callable[..., Any]] = {}
SAMPLES: dict[str, Mapping[str, tuple[Any, dict[str, Any]]]] = {}  # of Python operators


def register(
    name: str,
    forward: Callable[..., Array],
    backward: Callable[..., Any],
    *,
    shape: Callable[..., Shape] | None = None,
    mixes_samples: bool = False,
    samples: Mapping[str, tuple[Any, dict[str, Any]]] | None = None,
) -> Callable[..., Any]:
    """Add an operator of your own; afterwards it is `pynn.ops.<name>`, for arrays and in forward.

    Args:
        name: a Python identifier that no operator has yet.
        forward: `forward(*arrays, **attributes)` gives y. Arrays are NCHW, of the model's dtype.
        backward: `backward(dy, *arrays, **attributes)` gives the gradient for each array: a tuple,
            or the one array.
        shape: `shape(*shapes, **attributes)` gives the shape of y; None means that of the first
            array.
        mixes_samples: whether a row of y depends on other rows of the arrays than its own;
            evaluation then never cuts a batch into pieces.
        samples: by name, (shapes of the arrays, attributes), for `pynn.testing.opcheck`.

    Returns:
        The function that `pynn.ops.<name>` is.

    Raises:
        ValueError: the name is taken, or is not an identifier.
        TypeError: what must be a text or a function is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, got {name!r}")
    given = {"forward": forward, "backward": backward, "shape": shape}
    for part, function in given.items():
        if not callable(function) and (part != "shape" or function is not None):
            raise TypeError(f"{part} must be a function, got {function!r}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"an operator's name must be a Python identifier, got {name!r}")

    def backward_of_node(
        k: Any, dy: Array, inputs: list[Array], outputs: Any, needs: Any, /, **attributes: Any
    ) -> tuple[Array | None, ...]:
        gradients = backward(dy, *inputs, **attributes)
        if not isinstance(gradients, tuple):
            gradients = (gradients,)
        if len(gradients) != len(inputs):
            raise ValueError(
                f"backward of {name!r} gave {len(gradients)} gradients for {len(inputs)} inputs"
            )
        return tuple(gradients)

    def operate(*operands: Any, **attributes: Any) -> Any:
        if any(isinstance(operand, Variable) for operand in operands):
            return record(name, operands, attributes)
        return np.asarray(forward(*operands, **attributes))

    def shape_of_node(*shapes: Shape | None, **attributes: Any) -> Shape:
        result = shapes[0] if shape is None else shape(*shapes, **attributes)
        try:
            sizes = tuple(index(size) for size in result)  # type: ignore[union-attr]
        except TypeError:
            sizes = (-1,)
        if min(sizes, default=0) < 0:
            raise ShapeError(
                f"the shape rule of {name!r} must give a tuple of sizes, such as (100, 10), got "
                f"{result!r}"
            )
        return sizes

    operate.__name__ = operate.__qualname__ = name
    operate.__doc__ = forward.__doc__
    operator = Operator(
        name=name,
        shape=shape_of_node,
        forward=lambda k, /, *arrays, **attributes: (forward(*arrays, **attributes),),
        backward=backward_of_node,
        mixes_samples=mixes_samples,
        python=True,
    )
    ops = import_module("pynn.ops")
    with REGISTERING:
        if hasattr(ops, name):
            raise ValueError(f"pynn.ops has something called {name!r} already")
        register_operator(operator)
        SAMPLES[name] = samples or {}
        REGISTERED[name] = operate
    return operate


def unregister(name: str) -> None:
    """Remove an operator that `register` or a library added. Models that use it must be traced
    before."""
    with REGISTERING:
        if name not in REGISTERED or name not in OPERATORS:
            raise ValueError(f"no registered operator is called {name!r}")
        del REGISTERED[name], OPERATORS[name]
        REGISTERED.pop(f"{name}_backward", None)
        SAMPLES.pop(name, None)
