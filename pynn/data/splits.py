"""Splits of row numbers 0..n-1 into parts that do not overlap."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.arguments import real_number, several, whole_number
from pynn.data import _batches
from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.graph import plain_array

Rows = NDArray[np.int64]

# The last streams of the shuffle, which no epoch of training reaches.
_SPLIT_STREAM = 2**64 - 1


def split_last(n: int, held_out: int) -> tuple[Rows, Rows]:
    """Hold out the last rows: the first n - held_out row numbers, and the last held_out ones.

    Raises:
        ValueError: unless 0 <= held_out <= n.
    """
    n, held_out = _sizes(n, held_out)
    rows = np.arange(n, dtype=np.int64)
    return rows[: n - held_out], rows[n - held_out :]


def split_first(n: int, held_out: int) -> tuple[Rows, Rows]:
    """Hold out the first rows: the last n - held_out row numbers, and the first held_out ones.

    Raises:
        ValueError: unless 0 <= held_out <= n.
    """
    n, held_out = _sizes(n, held_out)
    rows = np.arange(n, dtype=np.int64)
    return rows[held_out:], rows[:held_out]


def split_random(n: int, sizes: Sequence[int], seed: int) -> tuple[Rows, ...]:
    """Deal the rows into parts of the given sizes by a permutation that n and seed determine.

    Args:
        n: number of rows.
        sizes: of the parts; they sum to n.
        seed: 0..2**64-1.

    Raises:
        ValueError: sizes that are negative or do not sum to n, or a seed out of range.
    """
    n = whole_number("n", n)
    sizes = [whole_number("each of sizes", size) for size in several("sizes", sizes)]
    if min(sizes, default=0) < 0 or sum(sizes) != n:
        raise ValueError(f"sizes must be at least 0 and sum to n = {n}, got {tuple(sizes)}")
    rows = np.empty(n, np.int64)
    _batches.permute(rows, check_seed(seed), _SPLIT_STREAM)
    ends = np.cumsum(sizes)
    return tuple(rows[end - size : end] for size, end in zip(sizes, ends, strict=True))


def split_by_class(
    labels: NDArray[np.integer[Any]],
    shares: Sequence[float],
    seed: int,
    *,
    classes: Sequence[str] | None = None,
) -> tuple[Rows, ...]:
    """Deal the rows of each class into parts by a permutation, so that every part has all classes.

    Args:
        labels: shape (N,), integers from 0.
        shares: of the parts; they sum to 1. Of n rows a part gets n times its share, rounded, and
            at least one; the first gets what is left.
        seed: 0..2**64-1.
        classes: names of the classes, all of which must have rows; otherwise there are as many as
            the largest label says.

    Returns:
        The rows of each part, in ascending order.

    Raises:
        DTypeError: labels that are no integers.
        LabelError: a label below 0, or that is none of the classes.
        ShapeError: labels of another shape than (N,).
        ValueError: a class has too few rows for the parts, or shares that do not sum to 1.
    """
    shares = [real_number("each of shares", share) for share in several("shares", shares)]
    if min(shares, default=0) <= 0 or not math.isclose(sum(shares), 1):
        raise ValueError(f"shares must be above 0 and sum to 1, got {tuple(shares)}")
    labels = plain_array("labels", labels)
    if labels.ndim != 1:
        raise ShapeError(f"labels must have one dimension, got shape {labels.shape}")
    if labels.size and labels.dtype.kind not in "ui":
        raise DTypeError(f"labels must hold integers, got dtype {labels.dtype}")
    count = int(labels.max(initial=-1)) + 1 if classes is None else len(classes)
    outside = (labels < 0) | (labels >= count)
    if outside.any():
        place = int(np.argmax(outside))
        raise LabelError(f"label {labels[place]} at place {place} is outside 0..{count - 1}")
    parts: list[list[Rows]] = [[] for _ in shares]
    for label in range(count):
        rows = np.flatnonzero(labels == label)
        sizes = [max(1, round(len(rows) * share)) for share in shares[1:]]
        if len(rows) <= sum(sizes):
            name = label if classes is None else classes[label]
            raise ValueError(
                f"class {name} has too few rows: {len(rows)}, where {len(shares)} parts of at "
                f"least one row need {sum(sizes) + 1}"
            )
        order = np.empty(len(rows), np.int64)
        _batches.permute(order, check_seed(seed), _SPLIT_STREAM - label)
        ends = np.cumsum([0, len(rows) - sum(sizes), *sizes])
        for part, begin, end in zip(parts, ends[:-1], ends[1:], strict=True):
            part.append(rows[order[begin:end]])
    return tuple(np.sort(np.concatenate([np.empty(0, np.int64), *part])) for part in parts)


def check_split(n: int, parts: Sequence[Rows]) -> None:
    """Check that parts share no row and together are the rows 0..n-1.

    Raises:
        ValueError: naming a row that is outside, in no part, or there more than once.
    """
    rows = np.concatenate([np.empty(0, np.int64), *parts])
    outside = rows[(rows < 0) | (rows >= n)]
    if outside.size:
        raise ValueError(f"row {outside[0]} is outside 0..{n - 1}")
    counts = np.bincount(rows, minlength=n)
    if (counts != 1).any():
        row = int(np.argmax(counts != 1))
        raise ValueError(f"row {row} occurs {counts[row]} times in the parts, not once")


def check_seed(seed: int) -> int:
    """Return seed as an int; ValueError unless it is a 64-bit word."""
    seed = whole_number("seed", seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0..2**64-1, got {seed}")
    return seed


def _sizes(n: int, held_out: int) -> tuple[int, int]:
    n, held_out = whole_number("n", n), whole_number("held_out", held_out)
    if not 0 <= held_out <= n:
        raise ValueError(f"held_out must be in 0..{n}, got {held_out}")
    return n, held_out
