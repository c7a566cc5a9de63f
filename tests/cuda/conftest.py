import ctypes
import os

import pytest

import pynn
from pynn.backends import cuda_module


@pytest.fixture(scope="session")
def cuda():
    """The compiled CUDA back end; where there is none, tests are skipped and say why."""
    try:
        return cuda_module()
    except pynn.BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def emulated(cuda):
    """The same where it runs on the processor: there a device can be made small, or be lost."""
    if "emulated" not in cuda.describe():
        pytest.skip("this is of the emulated back end alone")
    return cuda


@pytest.fixture
def on_cuda(cuda):
    with pynn.backend("cuda"):
        yield


def all_large(cuda, library, set_large):
    if f"{library} not found" in cuda.libraries():
        pytest.skip(f"{library} is not here")
    before = set_large(0)
    yield
    set_large(before)


@pytest.fixture
def large_products(cuda):
    """Every product is a large one, which cuBLASLt computes; skipped where it is not found."""
    yield from all_large(cuda, "cuBLASLt", cuda.set_large_product)


@pytest.fixture
def large_convolutions(cuda):
    """Every convolution is a large one, which cuDNN computes; skipped where it is not found."""
    yield from all_large(cuda, "cuDNN", cuda.set_large_convolution)


@pytest.fixture
def cudnn_stand_in(large_convolutions):
    """The same, with the library that stands in for cuDNN: it counts, and can refuse."""
    library = ctypes.CDLL("libcudnn.so.9", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    if not hasattr(library, "pynn_stand_in_convolutions"):
        pytest.skip("this cuDNN is NVIDIA's")
    for name in ("convolutions", "plans"):
        getattr(library, f"pynn_stand_in_{name}").restype = ctypes.c_long
    return library


@pytest.fixture
def cublaslt_stand_in(large_products):
    """The same, with the library that stands in for cuBLASLt: it counts, and can refuse."""
    library = ctypes.CDLL("libcublasLt.so.13", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    if not hasattr(library, "pynn_stand_in_products"):
        pytest.skip("this cuBLASLt is NVIDIA's")
    library.pynn_stand_in_products.restype = ctypes.c_long
    return library
