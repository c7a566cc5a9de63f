"""Training steps on a sample or a few, where arithmetic is the lesser part."""

from __future__ import annotations

from benchmarks.overhead.figures import Measure, Row
from benchmarks.overhead.turns import microseconds
from benchmarks.workloads import SMALL_STEPS


def row(workload: str, peers: list[str], threads: int, rounds: int) -> Row:
    """One network and batch; the goal is for one sample."""
    functions = {peer: f"{peer}_peer:train" for peer in peers if peer != "numpy"}
    goal = 5.0 if workload.endswith("batch 1") else None
    return microseconds(workload, functions, threads, rounds, goal)


STEPS = Measure(
    "A training step with SGD on few samples, microseconds",
    ("pynn",), 9, tuple(workload.name for workload in SMALL_STEPS), row,
)  # fmt: skip
