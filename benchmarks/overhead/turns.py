"""Calls that take microseconds, of peers in turn."""

from __future__ import annotations

from benchmarks.overhead.figures import Row
from benchmarks.peer_process import compare


def microseconds(
    workload: str, functions: dict[str, str], threads: int, rounds: int, goal: float | None
) -> Row:
    """The median of each peer, and PyTorch's over pynn's; the answers are compared first."""
    milliseconds, failed = compare(workload, functions, threads, rounds, tolerance=1e-4)
    figures = {peer: 1e3 * time for peer, time in milliseconds.items()}
    if "pynn" in figures and "torch" in figures:
        figures["torch / pynn"] = figures["torch"] / figures["pynn"]
    return Row(workload, figures, goal, [f"{name} failed: {why}" for name, why in failed.items()])
