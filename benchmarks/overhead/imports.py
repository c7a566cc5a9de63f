"""What imports take, each in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.overhead.figures import Measure, Row
from benchmarks.peer_process import ROOT, PeerError, environment, reason

# sys and time are built in: nothing that the library needs is loaded before the clock starts.
PROGRAM = """
import sys, time
begin = time.perf_counter()
import {library}
print(time.perf_counter() - begin, "numpy" in sys.modules)
"""


def _seconds(library: str, threads: int) -> float:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(library=library)],
        cwd=ROOT, env=environment(threads), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise PeerError(reason(ended.stderr))
    seconds, has_numpy = ended.stdout.split()
    # Without NumPy in it, there would be nothing to subtract.
    assert library == "torch" or has_numpy == "True", f"{library} does not import NumPy"
    return float(seconds)


def row(workload: str, peers: list[str], threads: int, rounds: int) -> Row:
    """All libraries in turn, after one round that fills the caches of files."""
    times: dict[str, list[float]] = {library: [] for library in ("numpy", *peers)}
    notes = []
    for _ in range(rounds + 1):
        for library in list(times):
            try:
                times[library].append(_seconds(library, threads))
            except PeerError as error:
                del times[library]
                notes.append(f"{library} failed: {error}")
    figures = {name: 1e3 * statistics.median(taken[1:]) for name, taken in times.items()}
    if {"numpy", "pynn"} <= figures.keys():
        figures["pynn - numpy"] = figures["pynn"] - figures["numpy"]
    return Row(workload, figures, 20, notes)


IMPORTS = Measure(
    "An import in a fresh process, milliseconds", ("pynn - numpy",), 15, ("import",), row
)
