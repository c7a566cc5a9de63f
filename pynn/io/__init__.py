"""Files: tensors in the safetensors format, and states of models in that and others."""

from pynn.io.safetensors import load, load_metadata, save
from pynn.io.states import load_state

__all__ = ["load", "load_metadata", "load_state", "save"]
