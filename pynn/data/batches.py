"""Mini-batches: rows gathered in shuffled order, scaled and converted in one pass."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynn.arguments import real_number, whole_number
from pynn.data import _batches
from pynn.data.splits import check_seed
from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.graph import plain_array
from pynn.memory import aligned_zeros

Array = NDArray[Any]


class Batches:
    """The batches of a data set, epoch after epoch.

    Iterating gives one epoch of pairs (x, y), and the next epoch when it is iterated again;
    `epoch(e)` gives epoch e whatever came before. The order of epoch e depends on the number of
    rows, the seed and e alone, so that training can be resumed: set `next_epoch`.

    Args:
        images: shape (N, ...), at least two dimensions; uint8, float32 or float64. Kept without a
            copy where it is C-contiguous, aligned and in native byte order; else made so, once.
        labels: shape (N, ...). Integers are converted to int64; floating targets to `dtype`.
        batch_size: rows in a batch, at least 1; the last batch of an epoch may be smaller.
        shuffle: whether each epoch has an order of its own; without it rows come as they are.
        seed: of the shuffle, 0..2**64-1.
        scale: x = images * scale, where both are first rounded to `dtype`. None: 1/255 for uint8
            images, 1 for others.
        dtype: of x, float32 or float64.
        drop_last: leave out a last batch that is smaller.
        reuse: give views of two buffers in turn instead of fresh arrays: x and y hold until the
            next batch but one. For loops that are done with a batch before that.

    Raises:
        ShapeError: images with fewer than two dimensions, or not as many labels as images.
        DTypeError: another dtype.
        LabelError: a label beyond int64.
        ValueError: another batch_size or seed.
    """

    def __init__(
        self,
        images: Array,
        labels: Array,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        scale: float | None = None,
        dtype: DTypeLike = np.float32,
        drop_last: bool = False,
        reuse: bool = False,
    ) -> None:
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise DTypeError(f"dtype must be float32 or float64, got {dtype!r}") from None
        if self.dtype not in (np.float32, np.float64):
            raise DTypeError(f"dtype must be float32 or float64, got {self.dtype}")
        self.images = _dense_images(images)
        self.labels = _dense_labels(labels, self.dtype)
        if len(self.images) != len(self.labels):
            raise ShapeError(
                "images and labels must have the same length, got shapes "
                f"{self.images.shape} and {self.labels.shape}"
            )
        self.batch_size = whole_number("batch_size", batch_size, 1)
        if scale is None:
            scale = 1 / 255 if self.images.dtype == np.uint8 else 1.0
        if not math.isfinite(real_number("scale", scale)):
            raise ValueError(f"scale must be finite, got {scale}")
        self.shuffle = shuffle
        self.seed = check_seed(seed)
        self.scale = scale
        self.drop_last = drop_last
        self.reuse = reuse
        self.next_epoch = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(len(self.images), self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Return the batches of `next_epoch`, and count it up."""
        self.next_epoch += 1
        return self.epoch(self.next_epoch - 1)

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of rows in an epoch, shape (N,): 0..N-1 without shuffling."""
        if not 0 <= epoch < 2**64 - 1:
            raise ValueError(f"epoch must be in 0..2**64-2, got {epoch}")
        if not self.shuffle:
            return np.arange(len(self.images), dtype=np.int64)
        order = np.empty(len(self.images), np.int64)
        _batches.permute(order, self.seed, epoch)
        return order

    def epoch(self, epoch: int) -> Iterator[tuple[Array, Array]]:
        """Return the batches of an epoch.

        Yields:
            x (B, ...) in `dtype`, y (B, ...) int64 or `dtype`, with B rows in a batch.
        """
        return self._batches_of(self.permutation(epoch))  # not a generator: errors come at the call

    def in_order(self, order: ArrayLike) -> Iterator[tuple[Array, Array]]:
        """Return the batches of an epoch in a given order of rows.

        Args:
            order: numbers of rows, shape (M,); each may come any number of times.

        Yields:
            As `epoch` does; the last batch has the rows that are left.

        Raises:
            ShapeError: order is not one-dimensional.
            DTypeError: order does not hold integers.
            IndexError: a row does not exist.
        """
        return self._batches_of(checked_order(order, len(self.images)))

    def _batches_of(self, order: NDArray[np.int64]) -> Iterator[tuple[Array, Array]]:
        images, labels = self.images, self.labels
        rows_of_images = _as_rows(images)
        bytes_of_labels = _as_rows(labels).view(np.uint8)
        most = min(self.batch_size, len(order))
        buffers = [self._buffers(most) for _ in range(2)] if self.reuse else []
        for number, begin in enumerate(range(0, len(order), self.batch_size)):
            rows = order[begin : begin + self.batch_size]
            if self.drop_last and len(rows) < self.batch_size:
                return
            if buffers:
                x, y = (buffer[: len(rows)] for buffer in buffers[number % 2])
            else:
                x, y = self._empty(len(rows))
            _batches.gather(rows_of_images, rows, _as_rows(x), self.scale)
            _batches.copy_rows(bytes_of_labels, rows, _as_rows(y).view(np.uint8))
            yield x, y

    def _empty(self, rows: int) -> tuple[Array, Array]:
        x = np.empty((rows, *self.images.shape[1:]), self.dtype)
        return x, np.empty((rows, *self.labels.shape[1:]), self.labels.dtype)

    def _buffers(self, rows: int) -> tuple[Array, Array]:
        x, y = self._empty(rows)
        return aligned_zeros(x.shape, x.dtype), y


def checked_order(order: ArrayLike, count: int) -> NDArray[np.int64]:
    """Numbers of rows, out of `count`, as int64; see `Batches.in_order`."""
    rows = plain_array("order", order)
    if rows.ndim != 1:
        raise ShapeError(f"order must have one dimension, got shape {rows.shape}")
    if rows.size == 0:
        return np.empty(0, np.int64)
    if rows.dtype.kind not in "ui":
        raise DTypeError(f"order must hold integers, got dtype {rows.dtype}")
    outside = (rows < 0) | (rows >= count)
    if outside.any():
        place = int(np.argmax(outside))
        raise IndexError(f"row {rows[place]} at place {place} of order is outside 0..{count - 1}")
    return np.ascontiguousarray(rows, np.int64)


def _as_rows(array: Array) -> Array:
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _dense_images(images: Array) -> Array:
    images = plain_array("images", images)
    if images.dtype.newbyteorder("=") not in (np.uint8, np.float32, np.float64):
        raise DTypeError(f"images must be uint8, float32 or float64, got {images.dtype}")
    if images.ndim < 2:
        raise ShapeError(f"images must have at least two dimensions (N, ...), got {images.shape}")
    return np.require(images, images.dtype.newbyteorder("="), ["C", "A"])


def _dense_labels(labels: Array, dtype: np.dtype[Any]) -> Array:
    labels = plain_array("labels", labels)
    if labels.ndim < 1:
        raise ShapeError("labels must have shape (N, ...), got ()")
    if labels.dtype.kind in "ui":
        if labels.dtype.kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
            raise LabelError(f"label {labels.max()} does not fit int64")
        return np.require(labels, np.int64, ["C", "A"])
    if labels.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise DTypeError(f"labels must be integers, float32 or float64, got {labels.dtype}")
    return np.require(labels, dtype, ["C", "A"])
