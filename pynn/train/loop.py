"""The training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pynn.arguments import require_kind, several, whole_number
from pynn.data.batches import Batches
from pynn.errors import NonFiniteError
from pynn.graph import Array, Shape
from pynn.nn.losses import Loss
from pynn.nn.module import Module, evaluating
from pynn.optim.optimizer import Optimizer
from pynn.optim.schedules import AnySchedule, ReduceLROnPlateau
from pynn.random import get_seed
from pynn.train import progress as progress_display
from pynn.train.callbacks import Callback, Run
from pynn.train.checkpoint import Checkpoint, load_run
from pynn.train.evaluation import (
    Means,
    are_labels,
    check_data,
    checked_pair,
    evaluate,
    no_batch,
)
from pynn.train.history import History
from pynn.train.step import CompiledStep


def fit(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    data: tuple[Any, Any] | Batches,
    *,
    valid: tuple[Any, Any] | Iterable[tuple[Array, Any]] | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int | None = None,
    schedule: AnySchedule | None = None,
    callbacks: Sequence[Callback] = (),
    accumulate: int = 1,
    resume: str | os.PathLike[str] | None = None,
    progress: bool | str = "auto",
) -> History:
    """Train a model.

    Args:
        model: what to train; put into training mode.
        loss, optimizer: see `compile`.
        data: (x, y), arrays with the samples along axis 0, or a `data.Batches`, which brings batch
            size, shuffling and scaling.
        valid: (x, y), or batches of them, measured in evaluation mode after each epoch. Where data
            is a `data.Batches`, the x of a pair is scaled as there, if it is of the same dtype.
        epochs: how many, those before `resume` included.
        batch_size, shuffle: for (x, y); the last, smaller batch is trained on as well.
        seed: of shuffling; None is the one of `pynn.manual_seed`. The order of an epoch depends on
            the seed and its number alone.
        schedule: sets learning rates after each epoch, or each batch if it says so.
            `ReduceLROnPlateau` is given the loss, or the accuracy if its mode is "max", of
            validation where there is one, else of training.
        callbacks: such as `EarlyStopping` and `Checkpoint`; called in their order, but checkpoints
            last.
        accumulate: see `compile`.
        resume: a file of `Checkpoint` to go on from. The result is, to the bit, that of a training
            never interrupted.
        progress: True, False, or "auto": a bar in a terminal where rich is installed, otherwise a
            line for each epoch.

    Returns:
        The history, one row for each epoch.

    Raises:
        NonFiniteError: the loss is not finite. The model is as before that step; the exception's
            `history` has the epochs before.
        TypeError: data or valid are neither pairs nor batches, or another argument is not of its
            kind.
        ValueError: data or valid have no batch, the schedule is another optimiser's, or it is for
            an accuracy and there are no labels.
        FormatError: the file to resume from is damaged, or of another training.
        ShapeError: the model refuses a batch, the last and smaller one included.
    """
    require_kind("model", model, Module)
    epochs, callbacks = whole_number("epochs", epochs, 0), several("callbacks", callbacks)
    _check_watchers(schedule, optimizer, callbacks)
    if isinstance(valid, Iterator):
        raise TypeError(
            f"valid is measured after each epoch, but a {type(valid).__name__} gives its batches "
            "only once; pass (x, y), a list of batches, or a data.Batches"
        )
    held_out = None if valid is None else check_data("valid", valid)
    seed = get_seed() if seed is None else seed
    if isinstance(data, Batches):
        batches = data
    else:
        x, y = checked_pair("data", data, " or a data.Batches")
        if np.asarray(x).dtype not in (np.uint8, np.float32, np.float64):
            x = model.as_input(x)
        batches = Batches(
            x,
            y,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            scale=1.0,
            dtype=model.dtype,
        )
    history = History()
    run = Run(
        model=model,
        optimizer=optimizer,
        step=CompiledStep(model, loss, optimizer, accumulate=accumulate),
        schedule=schedule,
        history=history,
        epochs=epochs,
        batches=len(batches),
        seed=batches.seed,
        callbacks=callbacks,
        source=batches,
    )
    if resume is not None:
        load_run(resume, run)
        batches.seed = run.seed
    model.train()
    output = _check_batches(model, batches)
    if held_out is not None:
        with evaluating(model):
            model.trace(held_out[0].shape)
        valid = run.as_trained(valid)
    if _for_accuracy(schedule) and (valid is None or held_out is not None):
        targets = [batches.labels, *([] if held_out is None else held_out[1:])]
        if not any(are_labels(target, output) for target in targets):
            raise _no_accuracy()
    others = sorted(run.callbacks, key=lambda callback: isinstance(callback, Checkpoint))
    watchers = [*others, *progress_display.choose(progress)]  # a checkpoint holds what others did
    for watcher in watchers:
        watcher.on_begin(run)
    try:
        while run.epoch < epochs and not run.stop:
            _train_epoch(run, loss, batches, valid, watchers)
    except BaseException as error:
        if isinstance(error, NonFiniteError):
            error.history = history
        _end(watchers, run, error)
    else:
        _end(watchers, run)
    return history


def _end(watchers: Sequence[Callback], run: Run, first: BaseException | None = None) -> None:
    """Call on_end of all, the last first, and raise the first error, with the others as notes."""
    for watcher in reversed(watchers):
        try:
            watcher.on_end(run)
        except BaseException as error:
            if first is None:
                first = error
            else:
                first.add_note(f"after it, {type(watcher).__name__}.on_end raised {error!r}")
    try:
        if first is not None:
            raise first
    finally:
        del first  # it refers to this frame, and would hold the model until garbage is collected


def _check_watchers(
    schedule: AnySchedule | None, optimizer: Optimizer, callbacks: Sequence[Callback]
) -> None:
    """Refuse what would fail in the midst of training, or change nothing."""
    if schedule is not None:
        if not isinstance(schedule, AnySchedule):
            raise TypeError(f"schedule must be one of pynn.optim, or of its kind, got {schedule!r}")
        if schedule.optimizer is not optimizer:
            raise ValueError("the schedule is another optimiser's: make one of this optimiser")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be objects of pynn.train.Callback, got {callback!r}")


def _check_batches(model: Module, batches: Batches) -> Shape:
    """Refuse, before the first batch, what the last and smaller one would be refused for.

    Returns:
        The shape of the model's output for the first.
    """
    count, size = len(batches.images), batches.batch_size
    if not len(batches):
        raise no_batch("the training data", batches)
    sizes = {min(count, size)} if batches.drop_last else {min(count, size), count % size or size}
    graphs = [
        model.trace((rows, *batches.images.shape[1:])).graph
        for rows in sorted(sizes & set(range(count + 1)), reverse=True)
    ]
    return graphs[0].shapes[graphs[0].output]


def _for_accuracy(schedule: AnySchedule | None) -> bool:
    return isinstance(schedule, ReduceLROnPlateau) and schedule.mode == "max"


def _metric(schedule: AnySchedule, row: dict[str, float]) -> float:
    """What a schedule looks at after an epoch."""
    quantity = "accuracy" if _for_accuracy(schedule) else "loss"
    for part in ("valid", "train"):
        if f"{part}_{quantity}" in row:
            return row[f"{part}_{quantity}"]
    raise _no_accuracy()


def _no_accuracy() -> ValueError:
    return ValueError(
        "ReduceLROnPlateau(mode='max') is for the accuracy, but there are no labels to measure it; "
        "mode='min' is for the loss"
    )


def _train_epoch(
    run: Run, loss: Loss, batches: Batches, valid: Any, watchers: Sequence[Callback]
) -> None:
    begin = time.perf_counter()
    means = Means(loss)
    lr = run.optimizer.lr
    for number, (x, y) in enumerate(batches.epoch(run.epoch), 1):
        means.add(run.step(x, y), run.step.output, y)
        if run.schedule is not None and run.schedule.per_batch:
            run.schedule.step()
        run.batch, run.loss = number, means.loss
        for watcher in watchers:
            watcher.on_batch_end(run)
    row = {"epoch": float(run.epoch + 1), **means.row("train_")}
    if valid is not None:
        row |= {f"valid_{name}": value for name, value in evaluate(run.model, loss, valid).items()}
    row |= {"lr": lr, "seconds": time.perf_counter() - begin}
    run.history.append(row)
    run.epoch, run.batch = run.epoch + 1, 0
    if run.schedule is not None and not run.schedule.per_batch:
        run.schedule.step(_metric(run.schedule, row))
    for watcher in watchers:
        watcher.on_epoch_end(run)
