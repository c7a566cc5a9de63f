"""An epoch on a GPU: the data lie there, batches are gathered there, and the host only asks for the
losses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynn import cuda
from pynn.data.batches import Batches, checked_order
from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.executors.device import not_finite
from pynn.executors.plan import LabelLoss, SquaredLoss
from pynn.graph import Array
from pynn.random import get_seed

if TYPE_CHECKING:
    from pynn.train.step import CompiledStep, FusedStep

# The host looks at the losses at least this often, so that Ctrl-C is heard.
_SECONDS = 0.05
_FIRST_STEPS, _MOST_STEPS = 16, 4096


class _Data(NamedTuple):
    """What is trained on: inputs and targets on the device, and the targets here as well."""

    x: Any
    y: Any
    targets: Array
    scale: float


def run_epoch(
    step: CompiledStep, x: Any, y: Any, order: ArrayLike, batch_size: int, scale: float | None
) -> Array | None:
    """Train on all batches; see `CompiledStep.epoch`.

    Returns:
        The loss of each batch, or None where a step of this model, loss and optimiser is not whole
        on the device; nothing has changed then.
    """
    data = _on_device(step, x, y, batch_size, scale)
    rows = checked_order(order, len(data.targets))
    losses: list[float] = []
    whole = len(rows) // batch_size * batch_size
    for part, size in ((rows[:whole], batch_size), (rows[whole:], len(rows) - whole)):
        at, steps = 0, _FIRST_STEPS
        while at < len(part):
            begin = time.perf_counter()
            some = part[at : at + steps * size]
            values = _run(step, data, some, size)
            if values is None:
                return None  # of the first batch already: nothing changes meanwhile
            losses += values
            at += len(some)
            seconds = max(time.perf_counter() - begin, 1e-6)
            steps = min(max(int(len(values) * _SECONDS / seconds), 1), _MOST_STEPS)
    return np.array(losses, dtype=np.float64)


def _on_device(step: CompiledStep, x: Any, y: Any, batch_size: int, scale: float | None) -> _Data:
    """The data on the device, where they are copied unless they lie there already."""
    # Of values that lie there as they are wanted, only shape and dtype are looked at here.
    stays = isinstance(y, cuda.Array) and y.dtype == step.model.dtype and y.ndim > 0
    targets = np.empty((len(y), 1), y.dtype) if stays else np.asarray(y)
    if isinstance(x, cuda.Array):
        if x.dtype not in (np.uint8, np.float32, np.float64):
            raise DTypeError(f"x must be uint8, float32 or float64, got {x.dtype}")
        if x.ndim < 2:
            raise ShapeError(f"x must have at least two dimensions (N, ...), got {x.shape}")
        images: Any = np.empty((len(x), 1), x.dtype)  # stands for it: only y is prepared
    else:
        images = x
    batches = Batches(
        images, targets, batch_size, shuffle=False, scale=scale, dtype=step.model.dtype
    )
    as_it_is = isinstance(y, cuda.Array) and y.dtype == batches.labels.dtype
    return _Data(
        x if isinstance(x, cuda.Array) else cuda.asarray(batches.images),
        y if as_it_is else cuda.asarray(batches.labels),
        np.broadcast_to(np.empty((), y.dtype), y.shape) if stays else batches.labels,
        batches.scale,
    )


def _run(step: CompiledStep, data: _Data, rows: NDArray[np.int64], size: int) -> list[float] | None:
    """As many steps as there are batches of this size among the rows: their losses."""
    shape = (size, *data.x.shape[1:])
    with step.model._turn_to_train():
        step.model._run_tape = None
        fused = step._fused_step(shape)
        if fused is not None and fused.settings() is None:
            step._forget(shape)
            fused = step._fused_step(shape)
        loss = None if fused is None else _loss_of(step, fused, data, size)
        if fused is None or loss is None:
            return None
        if isinstance(loss, LabelLoss):
            _check_labels(data.targets, rows, fused.graph.shapes[fused.graph.output][1], loss)
        losses, failed, norm = fused.device.epoch(
            data.x, data.y, rows, loss, data.scale, get_seed(), step.model._run_steps
        )
        values: list[float] = losses.tolist()
        made = len(values) - failed
        step.optimizer.zero_grad()
        step._made(fused, made, values[made - 1] if made else None)
        if failed:
            step._check_finite(values[-1])
            raise not_finite(norm)
        return values


def _loss_of(
    step: CompiledStep, fused: FusedStep, data: _Data, size: int
) -> LabelLoss | SquaredLoss | None:
    target = np.broadcast_to(np.empty((), data.targets.dtype), (size, *data.targets.shape[1:]))
    return step._device_loss(fused.graph.shapes[fused.graph.output], target)


def _check_labels(labels: Array, rows: NDArray[np.int64], classes: int, loss: LabelLoss) -> None:
    chosen = labels[rows]
    wrong = (chosen < 0) | (chosen >= classes)
    if loss.ignore_index is not None:
        wrong &= chosen != loss.ignore_index
    if wrong.any():
        place = int(np.argmax(wrong))
        raise LabelError(f"label {chosen[place]} at row {rows[place]} is outside 0..{classes - 1}")
