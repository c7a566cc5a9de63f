"""What an operator costs above its kernel: calls on arrays so small that there is little else."""

from __future__ import annotations

from benchmarks.overhead.figures import Measure, Row
from benchmarks.overhead.turns import microseconds
from benchmarks.peers.numpy_peer import FUNCTIONS
from benchmarks.workloads import TINY_CALLS


def row(workload: str, peers: list[str], threads: int, rounds: int) -> Row:
    """One operator. NumPy is beside it where it has the same."""
    functions = {
        peer: f"{peer}_peer:call_alone"
        for peer in peers
        if peer != "numpy" or TINY_CALLS[workload].operator in FUNCTIONS
    }
    return microseconds(workload, functions, threads, rounds, 1.5)


CALLS = Measure(
    "One call of an operator on tiny arrays, its kernel included, microseconds",
    ("pynn",), 9, tuple(TINY_CALLS), row,
)  # fmt: skip
