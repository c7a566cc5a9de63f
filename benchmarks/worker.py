"""One peer in a process of its own: python -m benchmarks.worker MODULE FUNCTION WORKLOAD THREADS.

Prints one JSON line for each line it reads: first the losses of three steps, then, for each number
N read, the seconds of a step, measured over N of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module


def main() -> None:
    """Serve the parent until it closes the pipe."""
    module, function, name, threads = sys.argv[1:5]
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[: int(threads)])
    from benchmarks.workloads import TRAINING

    workload = next(workload for workload in TRAINING if workload.name == name)
    step = getattr(import_module(f"benchmarks.peers.{module}"), function)(workload, int(threads))
    print(json.dumps([step() for _ in range(3)]), flush=True)
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter()
        for _ in range(count):
            step()
        print(json.dumps((time.perf_counter() - begin) / count), flush=True)


if __name__ == "__main__":
    main()
