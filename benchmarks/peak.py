"""What this machine can do: python -m benchmarks.peak.

Every other benchmark gives its speed as a share of the arithmetic measured here, at the same number
of threads.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import pynn
from pynn import _core


def measure(threads: int) -> dict[str, float]:
    """Medians over several runs.

    Returns:
        fma_gflops and fma_gflops_float64, the arithmetic of independent fused multiply-adds on
        registers, and read_gbytes, the speed of reading an array larger than any cache.
    """
    kept = pynn.get_num_threads()
    pynn.set_num_threads(threads)
    try:
        result = {"threads": float(threads)}
        for name, double in (("fma_gflops", False), ("fma_gflops_float64", True)):
            rates = []
            for _ in range(12):
                begin = time.perf_counter()
                operations = _core.fma_loop(2_000_000, double)
                rates.append(operations / (time.perf_counter() - begin) / 1e9)
            result[name] = statistics.median(rates[2:])
        a = np.ones(2**25, np.float32)
        rates = []
        for _ in range(7):
            begin = time.perf_counter()
            _core.mse_loss(a, a, "sum", False)
            rates.append(2 * a.nbytes / (time.perf_counter() - begin) / 1e9)
        result["read_gbytes"] = statistics.median(rates[2:])
        return result
    finally:
        pynn.set_num_threads(kept)


def main() -> None:
    """Print the figures for one thread and for all."""
    for threads in sorted({1, pynn.get_num_threads()}):
        figures = measure(threads)
        print(
            f"{threads} threads: FMA {figures['fma_gflops']:.0f} GFLOP/s in float32, "
            f"{figures['fma_gflops_float64']:.0f} in float64; "
            f"memory read at {figures['read_gbytes']:.1f} GB/s"
        )


if __name__ == "__main__":
    main()
