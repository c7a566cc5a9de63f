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
