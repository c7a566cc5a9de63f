"""The GPU: what there is, and arrays that lie on it.

    if pynn.cuda.is_available():
        x, y = pynn.cuda.asarray(images), pynn.cuda.asarray(labels)
        with pynn.backend("cuda"):
            losses = step.epoch(x, y, order, batch_size=128)

Everything here needs the module `pynn._cuda` (see "Computing on a GPU" in the documentation), but
`is_available` and `device_count`, which say False and 0 without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pynn.backends import cuda_module
from pynn.errors import BackendError

if TYPE_CHECKING:
    from pynn._cuda import Array

__all__ = [
    "Array", "Memory", "asarray", "describe", "device_count", "from_dlpack", "is_available",
    "memory_info", "synchronize",
]  # fmt: skip


class Memory(NamedTuple):
    """The memory of the device in bytes.

    Attributes:
        free: not in use, by this process or another.
        total: all of it.
    """

    free: int
    total: int


def is_available() -> bool:
    """Whether `pynn.backend("cuda")` can run here; if not, it says what is missing."""
    try:
        cuda_module()
    except BackendError:
        return False
    return True


def device_count() -> int:
    """How many GPUs the process sees. pynn computes on the first; CUDA_VISIBLE_DEVICES says which
    that is."""
    return int(cuda_module().device_count()) if is_available() else 0


def memory_info() -> Memory:
    """Free and total memory of the device.

    Raises:
        BackendError: there is no device to ask.
        DeviceError: the device failed.
    """
    return Memory(*cuda_module().memory_info())


def synchronize() -> None:
    """Wait until the device has done what it was given.

    Raises:
        BackendError: there is no device.
        DeviceError: something failed there.
    """
    cuda_module().synchronize()


def describe() -> str:
    """The device, the versions of CUDA, and the libraries of NVIDIA that were found."""
    module = cuda_module()
    return f"{module.describe()}; {module.libraries()}"


def asarray(x: Any) -> Array:
    """An array on the device.

    Args:
        x: a NumPy array, which is copied; or an array of another library that lies on the device
            and offers `__dlpack__` or `__cuda_array_interface__`, which is shared, and must be
            C-contiguous.

    Returns:
        An `Array`.

    Raises:
        BackendError: there is no device.
        DTypeError: x holds something that is no number, or is not C-contiguous on the device.
        DeviceMemoryError: it does not fit.
    """
    made: Array = cuda_module().asarray(x)
    return made


def from_dlpack(x: Any) -> Array:
    """An array on the device that shares the memory of x, which offers `__dlpack__`; the other
    library's work on it is waited for on the device. An x in host memory is copied."""
    return asarray(x)


def __getattr__(name: str) -> Any:
    if name == "Array":
        return cuda_module().Array
    raise AttributeError(f"module 'pynn.cuda' has no attribute {name!r}")
