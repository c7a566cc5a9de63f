"""Runs over settings: in parallel, each stored as it ends, so that a sweep goes on where it was
interrupted."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynn
from pynn.arguments import whole_number
from pynn.backends import get_precision
from pynn.config import config
from pynn.errors import MissingExtraError
from pynn.io.atomic import replacing
from pynn.random import seeded
from pynn.train.callbacks import Callback, Run
from pynn.train.history import plain
from pynn.train.settings import Setting
from pynn.train.sweep_identity import digest_of, identity
from pynn.train.sweep_progress import Watched, choose

Result = dict[str, Any]
RunFunction = Callable[[Setting, "SweepRun"], Mapping[str, Any]]

_RESULT, _PROGRESS = "result.json", "progress.json"
_REPORT_EVERY = 0.2  # seconds between two reports of a run, so that short epochs cost nothing


@dataclass
class SweepRun:
    """One run of a sweep, as its function sees it.

    Attributes:
        setting: what this run is about.
        folder: for files of this run, such as weights; exists. Kept with the result.
        seed: of the sweep; `pynn.manual_seed(seed)` has been called.
        data: what `sweep` was given.
    """

    setting: Setting
    folder: Path
    seed: int
    data: Any
    _reported: float = field(default=0.0, repr=False)

    def epoch(self, epoch: int, epochs: int, **numbers: float) -> None:
        """Tell how far the run is, for the progress display.

        Args:
            epoch: epochs finished.
            epochs: how many there will be.
            numbers: what is known so far, such as valid_accuracy=0.98.
        """
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY:
            return
        self._reported = now
        report = {"setting": self.setting, "epoch": epoch, "epochs": epochs, **numbers}
        temporary = self.folder / f"{_PROGRESS}.new"
        temporary.write_text(json.dumps(report, default=plain), encoding="utf-8")
        os.replace(temporary, self.folder / _PROGRESS)

    def callback(self) -> Callback:
        """A callback of `pynn.fit` that calls `epoch`."""
        return _Reporting(self)


class _Reporting(Callback):
    def __init__(self, sweep_run: SweepRun) -> None:
        self._sweep_run = sweep_run

    def on_epoch_end(self, run: Run) -> None:
        row = run.history.rows[-1]
        numbers = {name: row[name] for name in row if name.endswith(("loss", "accuracy"))}
        self._sweep_run.epoch(run.epoch, run.epochs, **numbers)


@dataclass(frozen=True)
class _Task:
    """What a worker needs for one run."""

    function: RunFunction
    setting: Setting
    folder: Path
    seed: int
    data: Any
    threads: int
    backend: str
    precision: str
    winograd: bool

    def __call__(self) -> Result:
        kept = pynn.get_num_threads(), pynn.get_winograd()
        if self.folder.exists():
            shutil.rmtree(self.folder)  # of a run that was interrupted
        self.folder.mkdir(parents=True)
        begin = time.perf_counter()
        try:
            pynn.set_num_threads(self.threads)
            pynn.set_winograd(self.winograd)
            with seeded(self.seed), pynn.backend(self.backend, precision=self.precision):
                run = SweepRun(self.setting, self.folder, self.seed, self.data)
                result = dict(self.function(dict(self.setting), run))
        except BaseException as error:
            error.add_note(f"in the run of {self.function.__name__} with {self.setting}")
            raise
        finally:
            pynn.set_num_threads(kept[0])
            pynn.set_winograd(kept[1])
        (self.folder / _PROGRESS).unlink(missing_ok=True)
        stored = {
            "setting": self.setting,
            "seed": self.seed,
            "seconds": time.perf_counter() - begin,
            "result": result,
        }
        try:
            text = json.dumps(stored, indent=1, default=plain)
        except TypeError as error:
            raise TypeError(f"a run returned what cannot be kept: {error}") from error
        with replacing(self.folder / _RESULT) as file:
            file.write(text.encode())
        return _result(json.loads(text), self.folder)


def sweep(
    function: RunFunction,
    settings: Sequence[Setting],
    folder: str | os.PathLike[str],
    *,
    data: Any = None,
    seed: int = 0,
    jobs: int = 1,
    threads: int | None = None,
    monitor: str | None = None,
    progress: bool | str = "auto",
) -> list[Result]:
    """Call a function for each of some settings, in parallel, and keep what it returns.

    Each result is stored in the folder as it ends. A later call with the same function, setting,
    seed, data, back end and version of pynn takes it from there instead of running it again; a run
    that was interrupted begins anew.

    To the function belong its code and the text of its module; its defaults and the variables
    around it, and those of functions and classes among them; of the globals that it reads, numbers,
    texts, tuples of them, arrays, and functions and classes of its module with what these read in
    turn. Nothing else counts: neither globals that it assigns, global lists, dictionaries and other
    objects, nor files, nor what it calls in other modules; classes of these count by their names.

    Args:
        function: called as function(setting, run), with a `SweepRun`; returns a dictionary of
            numbers, strings and lists that JSON can hold. Where jobs is above 1 it must be at the
            top level of a module. `pynn.manual_seed(seed)` is called before it.
        settings: dictionaries of plain values that JSON can hold, NumPy's numbers among them.
        folder: where results are kept; made if it is missing.
        data: given to each run as `run.data`, such as a `data.Dataset`: plain values, arrays,
            dataclasses, lists, tuples, sets and dictionaries of them.
        seed: given to each run as `run.seed`.
        jobs: how many run at once, in processes of their own where that is more than one (joblib).
            These have the caller's back end and `pynn.set_winograd`; operators must be registered
            and libraries loaded by the module of the function, as it is imported there.
        threads: of each run; None shares the usable processors among the jobs.
        monitor: a number of the results, or reported with `run.epoch`, whose best value the display
            shows: the largest where its name has "accuracy" in it, else the smallest.
        progress: True, False, or "auto": bars in a terminal where rich is installed, otherwise a
            line for each run.

    Returns:
        The results in the order of settings, each a dictionary with what the function returned, as
        JSON has it, and

        * "folder": the folder of the run, where the function may have left files,
        * "seconds": the time the run took, unless the function has returned one itself,
        * "reused": whether it was taken from an earlier call.

    Raises:
        MissingExtraError: jobs is above 1 and joblib is not installed.
        OSError: the folder cannot be written.
        TypeError: a setting cannot be kept, or the function or the data hold what runs cannot be
            told apart by; no run has begun.
        Exception: what the function raises, with the setting as a note; runs that ended before are
            kept.
    """
    asked = Sweep(function, settings, folder, data=data, seed=seed, monitor=monitor)
    [(_, results)] = sweep_all([asked], jobs=jobs, threads=threads, progress=progress)
    return results


def sweep_all(
    sweeps: Sequence[Sweep],
    *,
    jobs: int = 1,
    threads: int | None = None,
    progress: bool | str = "auto",
) -> Generator[tuple[int, list[Result]], None, None]:
    """Run some sweeps in one queue, so that no processor waits while there is a run left.

    Args:
        sweeps: their runs begin in this order, but those of sweeps that are `first` before all
            others.
        jobs, threads, progress: see `sweep`.

    Yields:
        The number of a sweep and its results as `sweep` returns them, when its last run has ended;
        the other runs go on meanwhile.

    Raises:
        Exception: see `sweep`.
    """
    jobs = whole_number("jobs", jobs, 1)
    digests: dict[int, str] = {}  # of data that several sweeps have
    plans = []
    for each in sweeps:
        if id(each.data) not in digests:
            digests[id(each.data)] = digest_of(each.data, "data")
        plans.append(_Plan(each, digests[id(each.data)]))
    waiting = [(plan, run_folder) for plan in plans for run_folder in plan.waiting]
    waiting.sort(key=lambda pair: not pair[0].sweep.first)
    jobs = max(1, min(jobs, len(waiting)))
    if threads is None:
        threads = max(1, config()["usable_processors"] // jobs)
    tasks = [
        _Task(
            plan.sweep.function, plan.settings[run_folder], run_folder, plan.sweep.seed,
            plan.sweep.data, threads, pynn.get_backend(), get_precision(), pynn.get_winograd(),
        )
        for plan, run_folder in waiting
    ]  # fmt: skip
    display = choose(
        progress, [Watched(p.sweep.name, len(p.settings), p.sweep.monitor) for p in plans]
    )
    with display.showing([task.folder / _PROGRESS for task in tasks]):
        for number, plan in enumerate(plans):
            for run_folder, result in plan.results.items():
                display.finished(number, plan.settings[run_folder], result)
        yield from ((n, p.in_order()) for n, p in enumerate(plans) if not p.waiting)
        for position, result in _execute(tasks, jobs):
            plan, run_folder = waiting[position]
            plan.results[run_folder] = {**result, "reused": False}
            number = plans.index(plan)
            display.finished(number, plan.settings[run_folder], plan.results[run_folder])
            if not plan.waiting:
                yield number, plan.in_order()


@dataclass(frozen=True, eq=False)
class Sweep:
    """A function and the settings it is to be called with; see `sweep`.

    Attributes:
        function, settings, folder, data, seed, monitor: see `sweep`.
        length: how long a run takes, in any unit: longer ones begin first, so that all end
            together. None: they begin in the order of the settings.
        first: whether its runs begin before those of other sweeps.
        title: for the progress display; None: the name of the function.
    """

    function: RunFunction
    settings: Sequence[Setting]
    folder: str | os.PathLike[str]
    data: Any = None
    seed: int = 0
    monitor: str | None = None
    length: Callable[[Setting], float] | None = None
    first: bool = False
    title: str | None = None

    @property
    def name(self) -> str:
        """What the progress display calls it."""
        return self.title or self.function.__name__


class _Plan:
    """The runs of a sweep, by folder: a setting that comes twice runs once.

    Attributes:
        folders: of the settings, in their order.
        settings, results: by folder; results as far as they are known.
    """

    def __init__(self, asked: Sweep, data: str) -> None:
        self.sweep = asked
        root = Path(asked.folder)
        settings = [_checked(setting) for setting in asked.settings]
        runs = identity(asked.function, asked.seed, data)
        root.mkdir(parents=True, exist_ok=True)
        name = asked.function.__name__.strip("<>")
        self.folders = [root / f"{name}-{digest_of([runs, s], 'a setting')}" for s in settings]
        self.settings = dict(zip(self.folders, settings, strict=True))
        stored = {run_folder: _stored(run_folder) for run_folder in self.settings}
        self.results: dict[Path, Result] = {
            run_folder: {**_result(found, run_folder), "reused": True}
            for run_folder, found in stored.items()
            if found is not None
        }

    @property
    def waiting(self) -> list[Path]:
        """The folders of runs that have not ended, in the order in which they begin."""
        left = [run_folder for run_folder in self.settings if run_folder not in self.results]
        length = self.sweep.length
        return left if length is None else sorted(left, key=lambda f: -length(self.settings[f]))

    def in_order(self) -> list[Result]:
        """The results in the order of the settings."""
        return [self.results[run_folder] for run_folder in self.folders]


def _execute(tasks: Sequence[_Task], jobs: int) -> Iterator[tuple[int, Result]]:
    """Results as they end, with their positions."""
    if jobs == 1:
        for position, task in enumerate(tasks):
            yield position, task()
        return
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingExtraError(
            "several runs at once need joblib: pip install 'pynn-core[run]'"
        ) from error
    # One by one: joblib would hand out short runs in groups, with a long one among them.
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    yield from parallel(delayed(_numbered)(number, task) for number, task in enumerate(tasks))


def _numbered(number: int, task: _Task) -> tuple[int, Result]:
    return number, task()


def _checked(setting: Setting) -> Setting:
    """A setting that can be kept beside its result."""
    if not isinstance(setting, Mapping):
        raise TypeError(f"a setting must be a dictionary, got {setting!r}")
    try:
        json.dumps(setting, default=plain)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the setting {setting} cannot be kept: {error}; name what is none of these, and let "
            "the function look it up"
        ) from error
    return setting


def _stored(folder: Path) -> dict[str, Any] | None:
    """What an earlier run left; None where it did not end."""
    try:
        stored: dict[str, Any] = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and "result" in stored else None


def _result(stored: Mapping[str, Any], folder: Path) -> Result:
    return {"seconds": stored["seconds"], **stored["result"], "folder": str(folder)}
