"""Time training steps of pynn and its peers, in turn, in one run.

Each peer runs in a process of its own, stopped while another is timed, so that no two pools of
threads compete. All start from the same weights, and their first three losses must agree.
"""

from __future__ import annotations

import argparse
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

from benchmarks.peak import measure
from benchmarks.workloads import TRAINING, Workload

PEERS = {
    "pynn": ("pynn_peer", "native", "pynn"),
    "numpy": ("pynn_peer", "reference", "pynn"),
    "torch eager": ("torch_peer", "eager", "torch"),
    "torch channels_last": ("torch_peer", "channels_last", "torch"),
    "torch compiled": ("torch_peer", "compiled", "torch"),
    "jax": ("jax_peer", "jit", "jax"),
}
SECONDS_PER_ROUND = 0.15


class Peer:
    """A worker process that is stopped unless it is asked."""

    def __init__(self, module: str, function: str, workload: Workload, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYNN_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", module, function, workload.name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.losses: list[float] = self._read()
        self.count = 1
        self.times: list[float] = []
        self.measure()
        self.count = max(1, round(SECONDS_PER_ROUND / self.times[0]))
        self.times.clear()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise RuntimeError(errors.strip().splitlines()[-1] if errors.strip() else "it ended")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def measure(self) -> None:
        """Time one round of steps."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{self.count}\n")
        self.process.stdin.flush()
        self.times.append(self._read())

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.communicate()


def time_workload(
    workload: Workload, names: list[str], threads: int, rounds: int, peak: float
) -> dict[str, Any]:
    """Median milliseconds of a step for each peer, and what follows from them."""
    peers: dict[str, Peer] = {}
    notes: dict[str, str] = {}
    try:
        for name in names:
            try:
                module, function, _ = PEERS[name]
                peers[name] = Peer(module, function, workload, threads)
            except RuntimeError as error:
                notes[name] = f"failed: {error}"
                continue
            for ours, theirs in zip(peers[names[0]].losses, peers[name].losses, strict=True):
                if not math.isclose(ours, theirs, rel_tol=1e-4):
                    raise AssertionError(
                        f"{workload.name}: {name} computes losses {peers[name].losses}, "
                        f"{names[0]} {peers[names[0]].losses}"
                    )
        for _ in range(rounds):
            for peer in peers.values():
                peer.measure()
    finally:
        for peer in peers.values():
            peer.end()
    milliseconds = {name: statistics.median(peer.times) * 1e3 for name, peer in peers.items()}
    gflops = workload.flops() / milliseconds["pynn"] / 1e6
    rivals = {name: ms for name, ms in milliseconds.items() if name not in ("pynn", "numpy")}
    row: dict[str, Any] = {
        "workload": workload.name, "batch": workload.batch, "milliseconds": milliseconds,
        "notes": notes, "gflops": gflops, "percent_of_peak": 100 * gflops / peak,
    }  # fmt: skip
    if rivals:
        best = min(rivals, key=lambda name: rivals[name])
        row |= {"best_peer": best, "ratio_to_best": rivals[best] / milliseconds["pynn"]}
        if "torch eager" in rivals:
            row["ratio_to_eager"] = rivals["torch eager"] / milliseconds["pynn"]
    return row


def show(row: dict[str, Any]) -> None:
    """One workload as lines."""
    print(f"\n{row['workload']} (batch {row['batch']})")
    for name, ms in row["milliseconds"].items():
        print(f"  {name:<20} {ms:10.3f} ms  {ms / row['milliseconds']['pynn']:8.2f} x")
    for name, note in row["notes"].items():
        print(f"  {name:<20} {note}")
    print(f"  pynn: {row['gflops']:.1f} GFLOP/s, {row['percent_of_peak']:.0f} % of the measured peak")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="parts of names; all by default")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="beside pynn; all by default")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    wanted = ["pynn", *(name for name in arguments.peers or PEERS if name != "pynn")]
    absent = [name for name in wanted if find_spec(PEERS[name][2]) is None]
    names = [name for name in wanted if name not in absent]
    for name in absent:
        print(f"{name} is left out: {PEERS[name][2]} is not installed")
    peak = measure(arguments.threads)
    print(f"{arguments.threads} threads; FMA peak {peak['fma_gflops']:.0f} GFLOP/s")
    rows = []
    for workload in TRAINING:
        if arguments.workloads and not any(part in workload.name for part in arguments.workloads):
            continue
        rows.append(
            time_workload(workload, names, arguments.threads, arguments.rounds, peak["fma_gflops"])
        )
        show(rows[-1])
    for key in ("ratio_to_best", "ratio_to_eager"):
        ratios = [row[key] for row in rows if key in row]
        if ratios:
            print(f"\n{key}: geometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"peak": peak, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
