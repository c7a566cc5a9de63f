"""Inference of pynn, PyTorch and ONNX Runtime, in turn, in one run, at batch 1 and 256."""

from benchmarks.table import run
from benchmarks.workloads import INFERENCE

PEERS = {
    "pynn": "pynn_peer:infer",
    "numpy": "pynn_peer:infer_reference",
    "onnxruntime": "onnxruntime_peer:infer",
    "torch": "torch_peer:infer",
}

if __name__ == "__main__":
    run(
        "python -m benchmarks.infer", __doc__,
        [(workload.name, workload.forward_flops()) for workload in INFERENCE], PEERS,
        tolerance=1e-4,
    )  # fmt: skip
