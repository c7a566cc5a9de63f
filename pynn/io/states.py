"""States of models from files of several kinds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn.errors import FormatError, MissingExtraError
from pynn.io.npz import read_npz
from pynn.io.safetensors import load


def load_state(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read arrays by name from a file of weights.

    Args:
        path: a .safetensors file; an .npz file; or a .pth or .pt file with a state dict, which
            PyTorch reads, if it is installed, without running code of the file (weights_only).

    Raises:
        FormatError: the content is not what the format prescribes, or no state dict.
        MissingExtraError: a .pth file, and PyTorch is not installed.
        ValueError: another ending.
        OSError: the file cannot be read.
    """
    ending = Path(path).suffix.lower()
    if ending == ".safetensors":
        return load(path)
    if ending == ".npz":
        return read_npz(path)
    if ending in (".pth", ".pt"):
        return _read_torch(path)
    raise ValueError(
        f"{os.fspath(path)}: weights are read from .safetensors, .npz, .pth and .pt files"
    )


def _read_torch(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"{os.fspath(path)}: only PyTorch reads such files, and it is not installed; convert "
            "the file to .safetensors, or pip install torch"
        ) from error
    with open(path, "rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # of a damaged file PyTorch raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FormatError(
                f"{os.fspath(path)}: PyTorch reads no weights from it ({reason})"
            ) from error
    tensors = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    )
    if not tensors:
        raise FormatError(f"{os.fspath(path)}: not a state dict, tensors by name")
    return {name: _array(path, name, tensor) for name, tensor in state.items()}


def _array(path: str | os.PathLike[str], name: str, tensor: Any) -> NDArray[Any]:
    """A PyTorch tensor as an array; bfloat16, which NumPy has not, as float32."""
    plain = tensor.detach()
    if str(plain.dtype) == "torch.bfloat16":
        plain = plain.float()
    try:
        return np.array(plain.numpy())
    except (RuntimeError, TypeError) as error:  # sparse, quantised, 8-bit floats
        raise FormatError(
            f"{os.fspath(path)}: the tensor {name!r} ({plain.dtype}, {plain.layout}) is no array "
            f"of numbers: {str(error).splitlines()[0]}"
        ) from error
