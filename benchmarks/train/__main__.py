"""Training steps of pynn and its peers, in turn, in one run, from the same weights."""

from benchmarks.table import run
from benchmarks.workloads import TRAINING

PEERS = {
    "pynn": "pynn_peer:train",
    "numpy": "pynn_peer:train_reference",
    "torch": "torch_peer:train",
    "torch channels_last": "torch_peer:train_channels_last",
    "torch compiled": "torch_peer:train_compiled",
    "jax": "jax_peer:train",
}

if __name__ == "__main__":
    run(
        "python -m benchmarks.train", __doc__,
        [(workload.name, workload.flops()) for workload in TRAINING], PEERS, tolerance=1e-4,
    )  # fmt: skip
