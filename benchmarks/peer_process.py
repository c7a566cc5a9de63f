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

SECONDS_PER_ROUND = 0.15


class PeerError(RuntimeError):
    """A peer could not run a workload."""


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
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYNN_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", function, workload, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.answer: list[float] = self._read()
        self.count = 1
        self.times: list[float] = []
        self.measure()
        self.count = max(1, round(SECONDS_PER_ROUND / self.times[0]))
        self.measure()
        self.times.clear()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise PeerError(errors.strip().splitlines()[-1] if errors.strip() else "it ended")
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
            first, *_ = peers
            for ours, theirs in zip(peers[first].answer, peers[name].answer, strict=True):
                if not math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=tolerance):
                    raise AssertionError(
                        f"{workload}: {name} gives {peers[name].answer}, "
                        f"{first} {peers[first].answer}"
                    )
        for _ in range(rounds):
            for peer in peers.values():
                peer.measure()
    finally:
        for peer in peers.values():
            peer.end()
    return {name: statistics.median(peer.times) * 1e3 for name, peer in peers.items()}, failed
