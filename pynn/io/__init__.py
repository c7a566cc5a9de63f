"""Files: tensors in the safetensors format."""

from pynn.io.safetensors import load, load_metadata, save

__all__ = ["load", "load_metadata", "save"]
