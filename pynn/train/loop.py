"""The training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pynn.data.batches import Batches
from pynn.errors import NonFiniteError
from pynn.graph import Array
from pynn.nn.losses import Loss
from pynn.nn.module import Module
from pynn.optim.optimizer import Optimizer
from pynn.optim.schedules import AnySchedule
from pynn.random import get_seed
from pynn.train import progress as progress_display
from pynn.train.callbacks import Callback, Run
from pynn.train.checkpoint import Checkpoint, load_run
from pynn.train.evaluation import Means, evaluate
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
        valid: (x, y), or batches of them, measured in evaluation mode after each epoch.
        epochs: how many, those before `resume` included.
        batch_size, shuffle: for (x, y); the last, smaller batch is trained on as well.
        seed: of shuffling; None is the one of `pynn.manual_seed`. The order of an epoch depends on
            the seed and its number alone.
        schedule: sets learning rates after each epoch, or each batch if it says so.
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
        FormatError: the file to resume from is damaged, or of another training.
        ShapeError: the model refuses a batch, the last and smaller one included.
    """
    if epochs < 0:
        raise ValueError(f"epochs must be 0 or more, got {epochs}")
    if isinstance(valid, Iterator):
        raise TypeError(
            f"valid is measured after each epoch, but a {type(valid).__name__} gives its batches "
            "only once; pass (x, y), a list of batches, or a data.Batches"
        )
    seed = get_seed() if seed is None else seed
    if isinstance(data, Batches):
        batches = data
    else:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                f"data must be (x, y) or a data.Batches, got a {type(data).__name__}"
                + (f" of {len(data)}" if isinstance(data, (tuple, list)) else "")
            )
        x, y = data
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
        callbacks=list(callbacks),
    )
    if resume is not None:
        load_run(resume, run)
        batches.seed = run.seed
    model.train()
    _check_batches(model, batches)
    others = sorted(run.callbacks, key=lambda callback: isinstance(callback, Checkpoint))
    watchers = [*others, *progress_display.choose(progress)]  # a checkpoint holds what others did
    for watcher in watchers:
        watcher.on_begin(run)
    try:
        while run.epoch < epochs and not run.stop:
            _train_epoch(run, loss, batches, valid, watchers)
    except NonFiniteError as error:
        error.history = history
        raise
    finally:
        for watcher in reversed(watchers):
            watcher.on_end(run)
    return history


def _check_batches(model: Module, batches: Batches) -> None:
    """Refuse, before the first batch, what the last and smaller one would be refused for."""
    count, size = len(batches.images), batches.batch_size
    if not len(batches):
        raise ValueError(f"the training data has no batch: {count} samples, batch size {size}")
    sizes = {min(count, size)} if batches.drop_last else {min(count, size), count % size or size}
    for rows in sorted(sizes & set(range(count + 1)), reverse=True):
        model.trace((rows, *batches.images.shape[1:]))


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
        run.schedule.step(row.get("valid_loss", row["train_loss"]))
    for watcher in watchers:
        watcher.on_epoch_end(run)
