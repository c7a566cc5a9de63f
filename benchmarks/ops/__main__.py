"""Single operators of pynn and PyTorch, forward and backward, in turn, in one run."""

from benchmarks.table import run
from benchmarks.workloads import OPERATORS

PEERS = {"pynn": "pynn_peer:operate", "torch": "torch_peer:operate"}

if __name__ == "__main__":
    run(
        "python -m benchmarks.ops", __doc__,
        [(name, call.flops()) for name, call in OPERATORS.items()], PEERS, tolerance=1e-4,
    )  # fmt: skip
