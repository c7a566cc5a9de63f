"""Files: tensors in the safetensors format, states of models in that and others, models in the ONNX
format."""

from pynn.io.onnx_export import export_onnx
from pynn.io.onnx_import import load_onnx
from pynn.io.safetensors import load, load_metadata, save
from pynn.io.states import load_state

__all__ = ["export_onnx", "load", "load_metadata", "load_onnx", "load_state", "save"]
