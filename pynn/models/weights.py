"""Weights of a model from a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from pynn.errors import DTypeError, FormatError, ShapeError, some_of
from pynn.io import load_state
from pynn.nn.module import Module

State = Mapping[str, NDArray[Any]]

_NAMED = 4  # so many tensors of each kind are named in an error


def load_weights(
    model: Module, path: str | os.PathLike[str], *, unused: Iterable[str] = ()
) -> None:
    """Give a model the weights of a file.

    Args:
        model: whose `state_dict` has the names that the file has.
        path: see `pynn.io.load_state`.
        unused: names that the file may have beyond those, such as the classifier of a network whose
            features are wanted alone.

    Raises:
        FormatError: tensors are missing or unknown, or the file is damaged.
        ShapeError: a tensor has the wrong shape. Errors name the file and the tensors; the model
            stays as it was.
    """
    give_weights(model, load_state(path), path, unused=unused)


def give_weights(
    model: Module, state: State, path: str | os.PathLike[str], *, unused: Iterable[str] = ()
) -> None:
    """The same with a state that has been read from a file."""
    expected = list(model.state_dict())
    allowed = {*expected, *unused}
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in allowed]
    if missing or unknown:
        problems = [
            f"{what} {some_of(names, _NAMED)}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise FormatError(
            f"{os.fspath(path)} does not hold the weights of {type(model).__name__}: "
            + "; ".join(problems)
        )
    try:
        model.load_state_dict({name: state[name] for name in expected})
    except (ShapeError, DTypeError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from error
