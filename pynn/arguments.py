"""Arguments, read in one place and named in the error where they are not of their kind."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from reprlib import repr as short
from typing import Any


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An integer of any kind.

    Args:
        name: what the caller calls it, for the message.
        value: what came.
        least: the smallest that makes sense.

    Raises:
        TypeError: it is no integer; 2.0 is none either.
        ValueError: it is less than `least`.
    """
    try:
        number = int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {short(value)}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be {least} or more, got {number}")
    return number


def whole_numbers(name: str, value: Any, least: int | None = None) -> int | tuple[int, ...]:
    """An integer, or several as a tuple, which cannot change behind its holder's back.

    Raises:
        TypeError, ValueError: as `whole_number`.
    """
    one = not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0
    if one or isinstance(value, (str, bytes)):
        return whole_number(name, value, least)
    return tuple(whole_number(f"each number of {name}", size, least) for size in value)


def pair(name: str, value: Any, least: int | None = None) -> tuple[int, int]:
    """Two integers; one stands for both.

    Raises:
        TypeError, ValueError: as `whole_number`, or they are not two.
    """
    sizes = whole_numbers(name, value, least)
    if isinstance(sizes, int):
        return sizes, sizes
    if len(sizes) != 2:
        raise ValueError(f"{name} must be one int or a pair, got {short(value)}")
    return sizes


def real_number(name: str, value: Any) -> float:
    """A number of any kind as a float.

    Raises:
        TypeError: it is none; "0.5" is none either.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, got {short(value)}") from None


def not_negative(name: str, value: Any) -> float:
    """A number, 0 or more, as a float.

    Raises:
        TypeError, ValueError: it is none.
    """
    number = real_number(name, value)
    if not number >= 0:
        raise ValueError(f"{name} must be 0 or more, got {short(value)}")
    return number


def share(name: str, value: Any) -> float:
    """A number in 0 ... 1 as a float.

    Raises:
        TypeError, ValueError: it is none.
    """
    number = real_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be in 0 ... 1, got {short(value)}")
    return number


def several(name: str, value: Any) -> list[Any]:
    """What a sequence, or another iterable, holds.

    Raises:
        TypeError: it is none, or a text.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence, got {short(value)}")
    return list(value)


def require_kind(name: str, value: Any, kind: type) -> None:
    """Raise a TypeError unless it is an object of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {short(value)}")
