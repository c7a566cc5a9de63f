"""Checkpoints: model, optimiser, schedule, callbacks, history and random state in one safetensors
file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pynn import io
from pynn.arguments import whole_number
from pynn.errors import FormatError
from pynn.graph import Array
from pynn.optim.schedules import AnySchedule
from pynn.random import get_seed, manual_seed
from pynn.train.callbacks import Callback, Run
from pynn.train.history import plain

_FORMAT = 1


def save_run(path: str | os.PathLike[str], run: Run) -> None:
    """Write all that the rest of a training depends on. The file appears whole or not at all.

    Args:
        path: the file, replaced if it exists.
        run: the training, at the end of an epoch.

    Raises:
        OSError: the file cannot be written.
    """
    optimizer = run.optimizer.state_dict()
    tensors = {f"model.{name}": array for name, array in run.model.state_dict().items()}
    for number, slots in enumerate(optimizer["state"]):
        tensors |= {f"optimizer.{number}.{name}": array for name, array in slots.items()}
    for number, callback in enumerate(run.callbacks):
        tensors |= {
            f"callback.{number}.{name}": array for name, array in callback.tensors().items()
        }
    if run.step.accumulated:
        tensors |= {
            f"gradient.{name}": parameter.grad
            for name, parameter in run.model.named_parameters()
            if parameter.grad is not None
        }
    state = {
        "format": _FORMAT,
        "seed": get_seed(),
        "shuffle_seed": run.seed,
        "model_steps": run.model._run_steps,
        "epoch": run.epoch,
        "stop": run.stop,
        "steps": run.step.steps,
        "accumulated": run.step.accumulated,
        "last_finite_loss": run.step.last_finite_loss,
        "optimizer": {
            "kind": type(run.optimizer).__name__,
            "groups": optimizer["groups"],
            "steps": optimizer["steps"],
        },
        "schedule": {"kind": _kind(run.schedule), "state": run.schedule.state_dict()}
        if run.schedule
        else None,
        "callbacks": [
            {"kind": type(callback).__name__, "state": callback.state_dict()}
            for callback in run.callbacks
        ],
        "history": run.history.rows,
        "tensors": sorted(tensors),
    }
    io.save(path, tensors, {"pynn.checkpoint": json.dumps(state, default=plain)})


def load_run(path: str | os.PathLike[str], run: Run) -> None:
    """Bring a training that is set up in the same way to where a checkpoint stands.

    Args:
        path: what `save_run` wrote.
        run: model, optimiser, schedule and callbacks like those that were saved.

    Raises:
        FormatError: the file is no checkpoint, or one of another model, optimiser, schedule or list
            of callbacks.
    """
    tensors = io.load(path)
    state = _state(path)
    if set(tensors) != set(map(str, state["tensors"])):
        raise FormatError(f"{path}: the checkpoint's tensors are not those that were saved")
    kinds = [type(callback).__name__ for callback in run.callbacks]
    schedule = state["schedule"]["kind"] if state["schedule"] else None
    for what, saved, here in (
        ("optimiser", state["optimizer"]["kind"], type(run.optimizer).__name__),
        ("schedule", schedule, _kind(run.schedule)),
        ("callbacks", [entry["kind"] for entry in state["callbacks"]], kinds),
    ):
        if saved != here:
            raise FormatError(f"{path}: the checkpoint has {what} {saved}, this training {here}")
    kept = run.model.state_dict(), run.optimizer.state_dict()
    kept_schedule = run.schedule.state_dict() if run.schedule else None
    try:
        _take_over(run, state, tensors)
    except (KeyError, TypeError, ValueError) as error:  # PynnErrors among them
        run.model.load_state_dict(kept[0])
        if run.schedule and kept_schedule:
            run.schedule.load_state_dict(kept_schedule)
        run.optimizer.load_state_dict(kept[1])
        raise FormatError(f"{path}: the checkpoint does not fit this training: {error}") from error


def _take_over(run: Run, state: dict[str, Any], tensors: dict[str, Array]) -> None:
    count = len(state["optimizer"]["steps"])
    run.model.load_state_dict(_below(tensors, "model."))
    # Before the optimiser, which has the learning rates that a callback may have set.
    if run.schedule:
        run.schedule.load_state_dict(state["schedule"]["state"])
    run.optimizer.load_state_dict(
        {
            "groups": [_tuples(group) for group in state["optimizer"]["groups"]],
            "state": [_below(tensors, f"optimizer.{number}.") for number in range(count)],
            "steps": state["optimizer"]["steps"],
        }
    )
    for number, (callback, entry) in enumerate(zip(run.callbacks, state["callbacks"], strict=True)):
        callback.load(entry["state"], _below(tensors, f"callback.{number}."))
    manual_seed(state["seed"])
    run.model._run_steps = state["model_steps"]
    run.epoch, run.stop, run.seed = state["epoch"], state["stop"], state["shuffle_seed"]
    parameters = dict(run.model.named_parameters())
    for name, gradient in _below(tensors, "gradient.").items():
        parameters[name].grad = gradient
    run.step.accumulated = state["accumulated"]
    run.step.steps, run.step.last_finite_loss = state["steps"], state["last_finite_loss"]
    run.history.rows[:] = state["history"]


_KEYS = {
    "format": int,
    "seed": int,
    "shuffle_seed": int,
    "model_steps": int,
    "epoch": int,
    "stop": bool,
    "steps": int,
    "accumulated": int,
    "optimizer": dict,
    "callbacks": list,
    "history": list,
    "tensors": list,
    "schedule": (dict, type(None)),
    "last_finite_loss": (float, int, type(None)),
}


def _state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The part of a checkpoint that is not tensors, with every entry of the right kind."""
    text = io.load_metadata(path).get("pynn.checkpoint")
    if text is None:
        raise FormatError(f"{path}: not a checkpoint, but a plain file of tensors")
    try:
        state = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{path}: the checkpoint's state is not JSON: {error}") from None
    if not isinstance(state, dict):
        raise FormatError(f"{path}: the checkpoint's state is not an object")
    for key, kind in _KEYS.items():
        if key not in state or not isinstance(state[key], kind):  # type: ignore[arg-type]
            raise FormatError(f"{path}: the checkpoint's {key!r} is missing or of the wrong kind")
        if kind is int and state[key] < 0:
            raise FormatError(f"{path}: the checkpoint's {key!r} is negative: {state[key]}")
    if state["format"] != _FORMAT:
        raise FormatError(
            f"{path}: the checkpoint has format {state['format']}, this version reads {_FORMAT}"
        )
    optimizer = state["optimizer"]
    whole = (
        isinstance(optimizer.get("kind"), str)
        and isinstance(optimizer.get("groups"), list)
        and all(isinstance(group, dict) for group in optimizer["groups"])
        and isinstance(optimizer.get("steps"), list)
        and all(isinstance(steps, int) for steps in optimizer["steps"])
        and all(
            isinstance(entry, dict) and {"kind", "state"} <= set(entry)
            for entry in state["callbacks"]
        )
        and all(isinstance(row, dict) for row in state["history"])
        and (state["schedule"] is None or {"kind", "state"} <= set(state["schedule"]))
    )
    if not whole:
        raise FormatError(
            f"{path}: the checkpoint's optimiser, schedule, callbacks or history is not what was "
            "saved"
        )
    return state


def _kind(schedule: AnySchedule | None) -> str | None:
    return None if schedule is None else type(schedule).__name__


def _tuples(group: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples: betas come back as a list."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in group.items()
    }


def _below(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)
    }


class Checkpoint(Callback):
    """Write a checkpoint after every `every` epochs, and after the last; `fit(..., resume=path)`
    goes on from it.

    Args:
        path: the file, in a folder that exists, replaced each time; whole at every moment, even if
            the process is killed.
        every: epochs between checkpoints.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: int = 1) -> None:
        self.path, self.every = path, whole_number("every", every, 1)

    def on_begin(self, run: Run) -> None:
        """Refuse, before an epoch is lost, what no file can be written to."""
        path = Path(self.path).resolve()
        if not path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the checkpoint {path} does not exist")
        if path.is_dir():
            raise IsADirectoryError(f"the checkpoint must be a file, but {path} is a folder")

    def on_epoch_end(self, run: Run) -> None:
        """Write, if it is time."""
        if run.epoch % self.every == 0 or run.epoch == run.epochs or run.stop:
            save_run(self.path, run)
