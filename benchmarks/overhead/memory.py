"""Memory of training steps, each peer in a fresh process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.overhead.figures import Measure, Row
from benchmarks.peer_process import ROOT, PeerError, check_answers, environment, reason
from benchmarks.workloads import TRAINING


def _process(peer: str, workload: str, threads: int) -> dict[str, Any]:
    ended = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.overhead.memory_process", f"{peer}_peer:train",
            workload, str(threads),
        ],
        cwd=ROOT, env=environment(threads), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise PeerError(reason(ended.stderr))
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def row(workload: str, peers: list[str], threads: int, rounds: int) -> Row:
    """One workload; the losses are compared. The goal is 60 % of what PyTorch needs."""
    results: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers if peer != "numpy"}
    notes = []
    for _ in range(rounds):
        for peer in list(results):
            try:
                results[peer].append(_process(peer, workload, threads))
            except PeerError as error:
                del results[peer]
                notes.append(f"{peer} failed: {error}")
        losses = {peer: taken[-1]["losses"] for peer, taken in results.items()}
        check_answers(workload, losses, tolerance=1e-4)
    if not all(one["reset"] for taken in results.values() for one in taken):
        notes.append("the highest mark could not be reset, and may be that of the import")
    figures = {}
    for kind in ("cold", "warm"):
        for peer, taken in results.items():
            figures[f"{peer}, {kind}"] = statistics.median(one[kind] for one in taken) / 1e6
        if {"pynn", "torch"} <= results.keys():
            ratio = figures[f"pynn, {kind}"] / figures[f"torch, {kind}"]
            figures[f"pynn / torch, {kind}"] = ratio
    return Row(workload, figures, 0.6, notes)


MEMORY = Measure(
    "Highest resident memory of training steps, MB above what it was with library, model and data "
    "(cold), or after another network had been trained (warm)",
    ("pynn / torch, cold", "pynn / torch, warm"), 3,
    tuple(workload.name for workload in TRAINING), row,
)  # fmt: skip
