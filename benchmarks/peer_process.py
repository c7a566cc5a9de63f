"""A peer in a process of its own, stopped while others are timed, so that no two pools of threads
compete.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS_PER_ROUND = 0.15


class PeerError(RuntimeError):
    """A peer could not run a workload."""


def environment(threads: int) -> dict[str, str]:
    """Environment variables of a process whose libraries use as many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYNN_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(threads))


def reason(errors: str) -> str:
    """The last line that a process wrote before it failed."""
    return errors.strip().splitlines()[-1] if errors.strip() else "it ended"


class Peer:
    """A worker process that is stopped unless it is asked.

    Args:
        function: "module:function" of benchmarks.peers.
        workload: its name.
        threads: how many the peer may use; it is bound to as many processors.

    Attributes:
        answer: numbers that must agree between peers.
        times: seconds of a call, one for each round.
    """

    def __init__(self, function: str, workload: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", function, workload, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(threads), cwd=ROOT,
        )  # fmt: skip
        self.answer: list[float] = self._read()
        self.count = 1
        self.times: list[float] = []
        self.measure()
        for _ in range(2):  # one call by itself takes far longer than one of many
            self.count = max(1, round(SECONDS_PER_ROUND / self.times[-1]))
            self.measure()
        self.times.clear()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise PeerError(reason(errors))
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def measure(self) -> None:
        """Time one round of calls."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{self.count}\n")
        self.process.stdin.flush()
        self.times.append(self._read())

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.communicate()


def available(functions: dict[str, str], libraries: dict[str, str]) -> dict[str, str]:
    """The peers whose library is installed; the others are named on standard output."""
    found = {}
    for name, function in functions.items():
        library = libraries[function.partition(":")[0]]
        if find_spec(library) is None:
            print(f"{name} is left out: {library} is not installed")
        else:
            found[name] = function
    return found


def check_answers(workload: str, answers: dict[str, list[float]], *, tolerance: float) -> None:
    """Raise AssertionError where a peer's answer is not that of the first."""
    first = next(iter(answers.values()), [])
    for name, answer in answers.items():
        for ours, theirs in zip(first, answer, strict=True):
            if not math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=tolerance):
                raise AssertionError(f"{workload}: {name} gives {answer}, expected {first}")


def compare(
    workload: str, functions: dict[str, str], threads: int, rounds: int, *, tolerance: float
) -> tuple[dict[str, float], dict[str, str]]:
    """Time peers in turn, after their answers have been compared with those of the first.

    Args:
        workload: its name.
        functions: the peers by name.
        threads: for each.
        rounds: how often each is timed.
        tolerance: relative, of the answers.

    Returns:
        The median milliseconds of a call for each peer, and for those that failed the reason.

    Raises:
        AssertionError: a peer computes something else.
    """
    peers: dict[str, Peer] = {}
    failed: dict[str, str] = {}
    try:
        for name, function in functions.items():
            try:
                peers[name] = Peer(function, workload, threads)
            except PeerError as error:
                failed[name] = str(error)
                continue
            answers = {peer: process.answer for peer, process in peers.items()}
            check_answers(workload, answers, tolerance=tolerance)
        for _ in range(rounds):
            for peer in peers.values():
                peer.measure()
    finally:
        for peer in peers.values():
            peer.end()
    return {name: statistics.median(peer.times) * 1e3 for name, peer in peers.items()}, failed
