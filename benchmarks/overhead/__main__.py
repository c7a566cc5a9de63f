"""What pynn costs beside its arithmetic: calls of operators, small steps, memory, the import."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.overhead.calls import CALLS
from benchmarks.overhead.figures import Row, as_markdown, reached, show, show_ratios
from benchmarks.overhead.imports import IMPORTS
from benchmarks.overhead.memory import MEMORY
from benchmarks.overhead.steps import STEPS
from benchmarks.peer_process import available
from benchmarks.table import LIBRARIES

MEASURES = {"calls": CALLS, "steps": STEPS, "memory": MEMORY, "import": IMPORTS}
PEERS = ("torch", "numpy")


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="parts of names; all by default")
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, help="how often each figure is taken")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="beside pynn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    arguments = parser.parse_args()

    chosen = ["pynn", *arguments.peers]
    peers = list(available({peer: f"{peer}_peer" for peer in chosen}, LIBRARIES))
    print(f"{arguments.threads} threads")
    tables: list[str] = []
    written: list[dict[str, Any]] = []
    for name in arguments.measures:
        measure = MEASURES[name]
        rows: list[Row] = []
        for workload in measure.workloads:
            if arguments.workloads and not any(part in workload for part in arguments.workloads):
                continue
            if not rows:
                print(f"\n# {measure.caption}")
            rounds = arguments.rounds or measure.rounds
            rows.append(measure.row(workload, peers, arguments.threads, rounds))
            show(measure, rows[-1])
        show_ratios(rows)
        if rows:
            tables.append(as_markdown(measure, rows))
        written += [
            {"measure": name, **asdict(row), "reached": reached(measure, row)} for row in rows
        ]
    if arguments.json:
        result = {"threads": arguments.threads, "rows": written}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
