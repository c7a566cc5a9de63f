"""Running studies: one, or all into one folder with an index."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pynn.data import Dataset
from pynn.experiments.setup import Setup
from pynn.io.atomic import replacing
from pynn.report import Report
from pynn.report.page import index
from pynn.report.report import duration


def run_study(name: str, setup: Setup) -> Report:
    """Run a study and write its report into setup.out, which is made if it is missing.

    Args:
        name: a key of `pynn.experiments.STUDIES`.
        setup: how.

    Raises:
        OSError: setup.out cannot be written.
    """
    setup.out.mkdir(parents=True, exist_ok=True)
    study: Callable[[Setup], Report] = import_module(f"pynn.experiments.{name}").run
    begin = time.perf_counter()
    report = study(setup)
    report.seconds = time.perf_counter() - begin + sum(setup.kept_seconds)
    report.write(setup.out)
    return report


def run_studies(
    names: Sequence[str], dataset: Dataset, out: Path, *, together: bool = False, **options: Any
) -> list[Report]:
    """Run some studies.

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
    reports = []
    for name in names:
        setup = Setup(dataset, out / name if together else out, **options)
        reports.append(run_study(name, setup))
    if together:
        for file, text in (("index.html", index(reports)), ("RESULTS.md", results(reports))):
            with replacing(out / file) as stream:
                stream.write(text.encode())
    return reports


def results(reports: Sequence[Report]) -> str:
    """All reports as one Markdown document, with an overview."""
    lines = [
        "# The studies: published results and ours",
        "",
        "Made by `pynn run`; no number is typed by hand. Times are of all runs, in parallel where "
        "the settings say so.",
        "",
        "| study | outcome | time |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {r.study} | {r.outcome()} | {duration(r.seconds)} |" for r in reports]
    total = sum(report.seconds for report in reports)
    lines += [f"| all | | {duration(total)} |", ""]
    return "\n".join(lines) + "\n" + "\n".join(report.as_markdown() for report in reports)
