"""How measurements are shown and kept."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peak import measure
from benchmarks.peer_process import available, compare

LIBRARIES = {
    "pynn_peer": "pynn",
    "torch_peer": "torch",
    "jax_peer": "jax",
    "onnxruntime_peer": "onnxruntime",
    "numpy_peer": "numpy",
}


def run(
    program: str,
    description: str,
    workloads: Iterable[tuple[str, int]],
    peers: dict[str, str],
    *,
    tolerance: float,
) -> None:
    """The command line of a suite: time its workloads, print the table, write JSON.

    Args:
        program, description: for --help.
        workloads: name and floating-point operations of each.
        peers: "module:function" by name; the first is pynn's.
        tolerance: of the answers.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("workloads", nargs="*", help="parts of names; all by default")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="*", choices=list(peers), help="beside pynn; default all")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args()

    own = next(iter(peers))
    wanted = {own, *(peers if arguments.peers is None else arguments.peers)}
    chosen = available({name: peers[name] for name in peers if name in wanted}, LIBRARIES)
    peak = measure(arguments.threads)
    print(f"{arguments.threads} threads; measured FMA peak {peak['fma_gflops']:.0f} GFLOP/s")
    rows = []
    for name, flops in workloads:
        if arguments.workloads and not any(part in name for part in arguments.workloads):
            continue
        milliseconds, failed = compare(
            name, chosen, arguments.threads, arguments.rounds, tolerance=tolerance
        )
        rows.append(_row(name, flops, own, milliseconds, failed, peak["fma_gflops"]))
        _show(rows[-1], own)
    for key in ("ratio_to_best", "ratio_to_torch"):
        ratios = [row[key] for row in rows if key in row]
        if ratios:
            mean, least = statistics.geometric_mean(ratios), min(ratios)
            print(f"\n{key.replace('_', ' ')}: geometric mean {mean:.2f}, least {least:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"peak": peak, "rows": rows}, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(_markdown(rows, list(chosen)))


def _row(
    name: str,
    flops: int,
    own: str,
    milliseconds: dict[str, float],
    failed: dict[str, str],
    peak: float,
) -> dict[str, Any]:
    gflops = flops / milliseconds[own] / 1e6
    row: dict[str, Any] = {
        "workload": name, "milliseconds": milliseconds, "failed": failed, "gflops": gflops,
        "percent_of_peak": 100 * gflops / peak,
    }  # fmt: skip
    rivals = {peer: ms for peer, ms in milliseconds.items() if peer not in (own, "numpy")}
    if rivals:
        row["best_peer"] = min(rivals, key=lambda peer: rivals[peer])
        row["ratio_to_best"] = min(rivals.values()) / milliseconds[own]
    if "torch" in rivals:
        row["ratio_to_torch"] = rivals["torch"] / milliseconds[own]
    return row


def _show(row: dict[str, Any], own: str) -> None:
    print(f"\n{row['workload']}")
    for peer, ms in row["milliseconds"].items():
        print(f"  {peer:<20} {ms:11.4f} ms  {ms / row['milliseconds'][own]:8.2f} x")
    for peer, reason in row["failed"].items():
        print(f"  {peer:<20} failed: {reason}")
    if row["gflops"]:
        share = row["percent_of_peak"]
        print(f"  {own} does {row['gflops']:.1f} GFLOP/s, {share:.0f} % of the measured peak")


def _markdown(rows: list[dict[str, Any]], peers: list[str]) -> str:
    """Milliseconds of each peer, and the time of the best rival over that of the first."""
    head = ["workload", *peers, "best rival / pynn", "% of peak"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        times = [row["milliseconds"].get(peer) for peer in peers]
        cells = [row["workload"], *("" if ms is None else f"{ms:.3g}" for ms in times)]
        cells.append(f"{row['ratio_to_best']:.2f}" if "ratio_to_best" in row else "")
        cells.append(f"{row['percent_of_peak']:.0f}" if row["gflops"] else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
