"""ONNX Runtime on the processor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.workloads import Workload


def _model(workload: Workload) -> bytes:
    """The workload as an ONNX file: Gemm, Conv, MaxPool, Relu, Flatten."""
    parameters = iter(workload.parameters())
    nodes, weights, value = [], [], "x"
    for place, (kind, *sizes) in enumerate(workload.layers):
        inputs = [value]
        if kind in ("conv", "linear"):
            for name in ("w", "b"):
                weights.append(numpy_helper.from_array(next(parameters), f"{name}{place}"))
                inputs.append(f"{name}{place}")
        attributes: dict[str, Any] = {}
        if kind == "conv":
            _, _, k, stride, padding = sizes
            attributes = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [padding] * 4}
        elif kind == "pool":
            attributes = {"kernel_shape": [sizes[0]] * 2, "strides": [sizes[1]] * 2}
        elif kind == "linear":
            attributes = {"transB": 1}
        operator = {
            "conv": "Conv", "pool": "MaxPool", "linear": "Gemm", "relu": "Relu",
            "flatten": "Flatten",
        }[kind]  # fmt: skip
        value = f"v{place}"
        nodes.append(helper.make_node(operator, inputs, [value], **attributes))
    shape = [workload.batch, *workload.input_shape]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, [workload.batch, "classes"])
    graph = helper.make_graph(nodes, "workload", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def infer(workload: Workload, threads: int) -> Callable[[], np.ndarray]:
    """A session with as many threads, all optimisations on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _model(workload), options, providers=["CPUExecutionProvider"]
    )
    x = workload.inputs()[0]
    return lambda: session.run(None, {"x": x})[0]
