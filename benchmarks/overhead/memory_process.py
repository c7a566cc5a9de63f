"""Memory of one peer: python -m benchmarks.overhead.memory_process MODULE:FUNCTION WORKLOAD
THREADS.

Prints one JSON line: losses of the steps; cold, the bytes by which resident memory was at its
highest above what it was with library, model and data; warm, the same above what it was after
another network had been trained: without the code that the library loads at its first step, and
its threads; reset, whether the system could forget what was highest before.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.workloads import WORKLOADS, Workload

STEPS = 3
# Each kind of layer, with sizes at which arrays count for nothing.
ANOTHER = Workload(
    "another", 2, (1, 8, 8),
    (
        ("conv", 1, 4, 3, 1, 1), ("tanh",), ("pool", 2, 2), ("conv", 4, 4, 3, 1, 1), ("relu",),
        ("flatten",), ("linear", 64, 16), ("sigmoid",), ("linear", 16, 10),
    ),
    momentum=0.9,
)  # fmt: skip


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS, what there is now, or VmHWM, what there was at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def settle() -> None:
    """Give back what is freed: a step that fills it anew is then seen."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def reset() -> bool:
    """Make VmHWM what VmRSS is; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def main() -> None:
    """Measure, and print."""
    function, name, threads = sys.argv[1:4]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    module, _, function = function.partition(":")
    train = getattr(import_module(f"benchmarks.peers.{module}"), function)
    step = train(WORKLOADS[name], int(threads))
    settle()
    cold = resident("VmRSS")
    train(ANOTHER, int(threads))()
    settle()
    warm = resident("VmRSS")
    was_reset = reset()
    losses = [step() for _ in range(STEPS)]
    highest = resident("VmHWM")
    print(
        json.dumps(
            {
                "losses": losses,
                "cold": max(highest - cold, mmap.PAGESIZE),
                "warm": max(highest - warm, mmap.PAGESIZE),
                "reset": was_reset,
            }
        )
    )


if __name__ == "__main__":
    main()
