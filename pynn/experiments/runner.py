"""Running studies: one, or all into one folder with an index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pynn
from pynn.config import config
from pynn.data import Dataset
from pynn.experiments import STUDIES
from pynn.experiments.setup import Setup, Study
from pynn.io.atomic import replacing
from pynn.report import Report
from pynn.report.figures import blank_figure
from pynn.report.page import index
from pynn.report.report import duration
from pynn.train.sweep import Result, Sweep, sweep_all

# Studies of long runs first, so that the jobs end together; and search before convnet, whose report
# has a look at that of the search.
_QUEUE = (
    "search", "convnet", "initialisation", "transfer", "ladder", "momentum", "faces", "denoiser",
)  # fmt: skip


def run_study(name: str, setup: Setup) -> Report:
    """Run a study and write its report into setup.out, which is made if it is missing.

    Args:
        name: a key of `pynn.experiments.STUDIES`.
        setup: how.

    Raises:
        OSError: setup.out cannot be written.
    """
    [report], _ = _run({name: setup})
    return report


def run_studies(
    names: Sequence[str], dataset: Dataset, out: Path, *, together: bool = False, **options: Any
) -> list[Report]:
    """Run some studies, the runs of all in one queue; each report is written when the runs of its
    study have ended.

    Args:
        names: of the studies.
        dataset: for all of them.
        out: folder of the study; where they run together, of an index, RESULTS.md, and a folder for
            each.
        together: whether this is one of several.
        options: see `Setup`.

    Returns:
        Their reports.
    """
    begin = time.perf_counter()
    setups = {name: Setup(dataset, out / name if together else out, **options) for name in names}
    reports, kept_seconds = _run(setups)
    if together:
        command = _command(names, dataset, options)
        overview = results(reports, time.perf_counter() - begin + kept_seconds, command)
        for file, text in (("index.html", index(reports)), ("RESULTS.md", overview)):
            with replacing(out / file) as stream:
                stream.write(text.encode())
    return reports


class _Running:
    """A study under way.

    Attributes:
        sweeps: what it wants to have run.
        results: of those, by number, as far as they are known.
        kept_seconds: what runs that were taken from an earlier call took then, in parallel.
    """

    def __init__(self, name: str, setup: Setup) -> None:
        begin = time.perf_counter()
        blank_figure(1, 1)  # what the report cannot do without is missed before the runs
        setup.out.mkdir(parents=True, exist_ok=True)
        self.name, self.setup = name, setup
        self.study: Study = import_module(f"pynn.experiments.{name}").run(setup)
        asked = next(self.study)
        self.sweeps = [
            replace(each, title=name if len(asked) == 1 else f"{name}: {each.name}")
            for each in asked
        ]
        self.results: dict[int, list[Result]] = {}
        self.kept_seconds = 0.0
        self._seconds = time.perf_counter() - begin

    @property
    def complete(self) -> bool:
        """Whether all results are known."""
        return len(self.results) == len(self.sweeps)

    def report(self) -> Report:
        """Send the results to the study, and write the report it returns."""
        begin = time.perf_counter()
        results = [self.results[number] for number in range(len(self.sweeps))]
        try:
            self.study.send(results)
        except StopIteration as end:
            report: Report = end.value
        else:
            raise RuntimeError(f"the study {self.name} yields more than once")
        runs = {result["folder"]: result for each in results for result in each}.values()
        jobs = self.setup.jobs
        self.kept_seconds = sum(r["seconds"] for r in runs if r["reused"]) / jobs
        in_parallel = sum(r["seconds"] for r in runs) / jobs
        report.seconds = self._seconds + in_parallel + time.perf_counter() - begin
        report.write(self.setup.out)
        return report


def _run(setups: Mapping[str, Setup]) -> tuple[list[Report], float]:
    """Run studies, their runs in one queue; their reports, and what those runs took that were kept
    from an earlier call."""
    order = sorted(setups, key=_QUEUE.index)
    studies = {name: _Running(name, setups[name]) for name in order}
    asked: list[tuple[str, int, Sweep]] = [
        (name, number, each)
        for name, study in studies.items()
        for number, each in enumerate(study.sweeps)
    ]
    shared = setups[order[0]]
    reports: dict[str, Report] = {}
    sweeps = sweep_all(
        [each for _, _, each in asked], jobs=shared.jobs, threads=shared.threads,
        progress=shared.progress,
    )  # fmt: skip
    with closing(sweeps):  # an error of a report ends the runs under way
        for place, found in sweeps:
            name, number, _ = asked[place]
            studies[name].results[number] = found
            while order and studies[order[0]].complete:
                name = order.pop(0)
                with _threads_of_one(shared):
                    reports[name] = studies[name].report()
    kept_seconds = sum(study.kept_seconds for study in studies.values())
    return [reports[name] for name in setups], kept_seconds


@contextmanager
def _threads_of_one(setup: Setup) -> Iterator[None]:
    """As many threads as a run has: others go on meanwhile."""
    kept = pynn.get_num_threads()
    pynn.set_num_threads(setup.threads or max(1, config()["usable_processors"] // setup.jobs))
    try:
        yield
    finally:
        pynn.set_num_threads(kept)


def _command(names: Sequence[str], dataset: Dataset, options: Mapping[str, Any]) -> str:
    """What runs the same again; of files and folders the names alone."""
    studies = "all" if list(names) == list(STUDIES) else " ".join(names)
    words = [f"pynn run {studies} --data {dataset.name}"]
    for name in ("faces", "weights", "squeezenet", "pretrain", "seed", "epochs", "jobs", "threads"):
        value = options.get(name)
        if isinstance(value, Path):
            words.append(f"--{name} {value.resolve().name}")
        elif isinstance(value, Dataset):
            words.append(f"--{name} {value.name}")
        elif value:
            words.append(f"--{name} {value}")
    if pynn.get_backend() != "native":
        words.append(f"--backend {pynn.get_backend()}")
    return " ".join(words + (["--quick"] if options.get("quick") else []))


def results(reports: Sequence[Report], seconds: float, command: str) -> str:
    """All reports as one Markdown document, with an overview; seconds that all took together."""
    lines = [
        "# The studies: published results and ours",
        "",
        f"Made by `{command}`; no number is typed by hand. The time of a study is that of its "
        "runs, divided by the number of jobs, and of its report; that of all is by the clock, "
        "with runs that were kept from an earlier call as long as they took then.",
        "",
        "| study | outcome | time |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {r.study} | {r.outcome()} | {duration(r.seconds)} |" for r in reports]
    lines += [f"| all | | {duration(seconds)} |", ""]
    missing = [name for name in STUDIES if name not in {report.study for report in reports}]
    if missing:
        lines += [f"Not run with these: {', '.join(missing)}.", ""]
    return "\n".join(lines) + "\n" + "\n".join(report.as_markdown() for report in reports)
