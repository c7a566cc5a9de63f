"""The device itself: arrays in and out, what is said of it, and what happens when it fails."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import pynn


def run(code, **environment):
    """Python code in a process of its own: what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_what_there_is(cuda):
    assert pynn.cuda.is_available()
    assert pynn.cuda.device_count() >= 1
    memory = pynn.cuda.memory_info()
    assert 0 < memory.free <= memory.total
    pynn.cuda.synchronize()
    assert "cuDNN" in pynn.cuda.describe()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_arrays_go_there_and_come_back(dtype, shape, cuda):
    array = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    there = pynn.cuda.asarray(array)
    assert (there.shape, there.dtype, there.ndim) == (shape, array.dtype, array.ndim)
    assert there.nbytes == array.nbytes
    np.testing.assert_array_equal(there.numpy(), array)
    np.testing.assert_array_equal(np.asarray(there), array)


def test_lists_and_strided_arrays_are_made_dense(cuda):
    array = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(pynn.cuda.asarray(array[::2, ::3]).numpy(), array[::2, ::3])
    np.testing.assert_array_equal(pynn.cuda.asarray([[1.0, 2.0]]).numpy(), [[1.0, 2.0]])
    with pytest.raises(pynn.DTypeError, match="integers or floats"):
        pynn.cuda.asarray(["a"])
    with pytest.raises(pynn.DTypeError, match="native byte order"):
        pynn.cuda.asarray(np.ones(3, ">f4"))


class Other:
    """An array of another library, which offers one of the two ways to share it."""

    def __init__(self, array, **interface):
        self.array, self.interface, self.streams = array, interface, []

    def __dlpack__(self, **arguments):
        self.streams.append(arguments["stream"])
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Interface:
    def __init__(self, array, **changes):
        self.kept = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changes


def test_dlpack_in_and_out(cuda):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    ours = pynn.cuda.asarray(values)
    other = Other(ours)
    shared = pynn.cuda.from_dlpack(other)
    assert other.streams[0] not in (None, 0, -1)  # the other library's work is waited for there
    np.testing.assert_array_equal(shared.numpy(), values)
    assert shared.__cuda_array_interface__["data"] == ours.__cuda_array_interface__["data"]
    del ours, other
    np.testing.assert_array_equal(shared.numpy(), values)
    assert shared.__dlpack_device__() == (2, 0)
    shared.__dlpack__()  # a capsule that nobody takes
    shared.__dlpack__(stream=-1, max_version=(1, 0))
    with pytest.raises(ValueError, match="stream 0 is ambiguous"):
        shared.__dlpack__(stream=0)
    with pytest.raises(BufferError):
        shared.__dlpack__(copy=True)


def test_old_dlpack(cuda):
    class Old(Other):
        def __dlpack__(self, stream=None):
            return self.array.__dlpack__(stream=stream)

    values = np.arange(5)
    shared = pynn.cuda.from_dlpack(Old(pynn.cuda.asarray(values)))
    np.testing.assert_array_equal(shared.numpy(), values)


def test_cuda_array_interface_in_and_out(cuda):
    values = np.arange(12, dtype=np.float64).reshape(3, 4)
    ours = pynn.cuda.asarray(values)
    interface = ours.__cuda_array_interface__
    assert interface["version"] == 3
    assert interface["shape"] == (3, 4)
    assert interface["typestr"] == "<f8"
    assert interface["stream"] not in (None, 0)
    shared = pynn.cuda.asarray(Interface(ours))
    np.testing.assert_array_equal(shared.numpy(), values)
    dense = pynn.cuda.asarray(Interface(ours, strides=(32, 8)))
    np.testing.assert_array_equal(dense.numpy(), values)
    with pytest.raises(pynn.DTypeError, match="C-contiguous"):
        pynn.cuda.asarray(Interface(ours, strides=(8, 24)))


def test_a_machine_without_a_gpu(emulated):
    text = run(
        """
import json, pynn
assert not pynn.cuda.is_available() and pynn.cuda.device_count() == 0
try:
    with pynn.backend("cuda"):
        pass
except pynn.BackendError as error:
    print(json.dumps(str(error)))
""",
        PYNN_EMULATOR_DEVICES="0",
    )
    assert text.startswith("the CUDA back end cannot run here: no GPU was found")


def test_memory_that_does_not_suffice(emulated):
    result = run(
        """
import json, numpy as np, pynn
from pynn import nn, optim
pynn.manual_seed(0)
model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
rng = np.random.default_rng(0)
def batch(n):
    return rng.standard_normal((n, 100)).astype(np.float32), rng.integers(0, 10, n)
with pynn.backend("cuda"):
    losses = [step(*batch(20)) for _ in range(3)]
    before = model.state_dict()
    try:
        step(*batch(4000))
    except pynn.DeviceMemoryError as error:
        text = str(error)
    same = all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    losses.append(step(*batch(20)))
print(json.dumps([text, same, bool(np.isfinite(losses).all()), isinstance(pynn.DeviceMemoryError(), MemoryError)]))
""",
        PYNN_EMULATOR_MEMORY="1000000",
    )
    text, *others = result
    assert "allocating" in text
    assert "smaller batches" in text
    assert others == [True, True, True]


@pytest.mark.parametrize("at", [1, 7, 18])
def test_a_device_that_is_lost(at, emulated):
    text, began_anew, equal = run(
        """
import json, numpy as np, pynn
from pynn import nn, optim
pynn.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 3, 8)
last = model.state_dict()
text = None
with pynn.backend("cuda"):
    for _ in range(12):
        try:
            step(x, y)
        except pynn.DeviceError as error:
            text = str(error)
            break
    equal = all(np.array_equal(last[k], v) for k, v in model.state_dict().items())
    losses = [step(x, y) for _ in range(3)]
print(json.dumps([text, losses[2] < losses[0], equal]))
""",
        PYNN_EMULATOR_LOST_AT=str(at),
    )
    assert "what lay on the device is lost" in text
    assert began_anew
    assert equal  # nobody read the parameters between the steps: they are as they were


def test_steps_that_cannot_be_recorded_run_as_they_are_and_say_so_once(emulated):
    code = """
import json, numpy as np, pynn, warnings
from pynn import nn, optim
pynn.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 3, 8)
with pynn.backend("cuda"), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    losses = [float(step(x, y)) for _ in range(4)]
    losses += step.epoch(x, y, np.tile(np.arange(8), 20), batch_size=8, scale=1.0).tolist()
    losses.append(float(step(x, y)))
print(json.dumps([losses, [str(warning.message) for warning in caught]]))
"""
    losses, said = run(code, PYNN_EMULATOR_GRAPHS="0")
    assert [losses, []] == run(code)
    (text,) = said
    assert "(making a graph ready: " in text
    assert "(cudaErrorNotSupported)" in text
    assert "launched one by one" in text


def test_a_thread_that_has_chosen_another_device(emulated):
    text = run(
        """
import json, numpy as np, pynn
try:
    pynn.cuda.asarray(np.ones(3, np.float32))
except pynn.DeviceError as error:
    print(json.dumps(str(error)))
""",
        PYNN_EMULATOR_DEVICES="3",
        PYNN_EMULATOR_CHOSEN="2",
    )
    assert "has chosen GPU 2" in text
    assert "CUDA_VISIBLE_DEVICES=2" in text


def test_arrays_of_a_device_that_was_lost(emulated):
    text, values = run(
        """
import json, numpy as np, pynn
x = pynn.cuda.asarray(np.arange(3))
pynn._cuda.lose()
try:
    x.numpy()
except pynn.DeviceError as error:
    text = str(error)
print(json.dumps([text, pynn.cuda.asarray(np.arange(3)).numpy().tolist()]))
"""
    )
    assert "make it anew" in text
    assert values == [0, 1, 2]


@pytest.mark.parametrize("first", ["pynn.cuda.asarray(np.arange(3))", "pynn.cuda.is_available()"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told(emulated, first):
    code = f"""
import json, os, warnings, numpy as np, pynn
x = {first}
read, write = os.pipe()
warnings.simplefilter("ignore")
if os.fork() == 0:
    try:
        pynn.cuda.asarray(np.arange(3))
        text = "it went on"
    except pynn.DeviceError as error:
        text = str(error)
    os.write(write, text.encode())
    os._exit(0)
os.wait()
print(json.dumps(os.read(read, 10000).decode()))
"""
    assert "start processes with the method 'spawn'" in run(code)
