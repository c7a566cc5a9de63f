"""One peer in a process of its own: python -m benchmarks.worker MODULE:FUNCTION WORKLOAD THREADS.

Prints one JSON line for each line it reads: first some numbers of its answer, then, for each number
N read, the seconds of a call, measured over N of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

import numpy as np

from benchmarks.workloads import WORKLOADS


def fingerprint(result: object) -> list[float]:
    """A few numbers that two equal results share: sizes of the sums, and the first elements."""
    array = np.asarray(result, dtype=np.float64)
    scale = float(np.sqrt(np.mean(array**2))) or 1.0
    first = [float(value) / scale for value in array.reshape(-1)[:5]]
    return [scale, float(array.mean()) / scale, *first]


def main() -> None:
    """Serve the parent until it closes the pipe."""
    function, name, threads = sys.argv[1:4]
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[: int(threads)])
    module, _, function = function.partition(":")
    peer = getattr(import_module(f"benchmarks.peers.{module}"), function)
    call = peer(WORKLOADS[name], int(threads))
    answers = [fingerprint(call()) for _ in range(3)]
    print(json.dumps([number for answer in answers for number in answer]), flush=True)
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter()
        for _ in range(count):
            call()
        print(json.dumps((time.perf_counter() - begin) / count), flush=True)


if __name__ == "__main__":
    main()
