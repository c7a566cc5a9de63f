"""A process that finds NVIDIA's libraries, does not find them, or loses the device."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

TRAIN = """
import ctypes, json, os
import numpy as np
import pynn
from pynn import nn, optim
assert pynn.cuda.is_available()
{before}
pynn._cuda.{set_large}(0)
pynn.manual_seed(0)
model = nn.Sequential({layers})
rng = np.random.default_rng(0)
x, y = rng.standard_normal({shape}).astype(np.float32), rng.integers(0, 3, 8)
counts = []
with pynn.backend("cuda"):
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    losses = [step(x, y) for _ in range(3)]
    text = step.plan(x.shape).explain()
    {after}
print(json.dumps([pynn._cuda.libraries(), losses, text, counts]))
"""


class Library(NamedTuple):
    """One of them, and a network that it computes two layers of."""

    name: str
    version: str  # of the stand-in
    file: str
    fixture: str
    computed: str  # how often, as the stand-in has counted
    set_large: str
    layers: str
    shape: tuple[int, ...]

    def train(self, before="", after="", **environment):
        script = TRAIN.format(
            before=before, after=after, set_large=self.set_large, layers=self.layers,
            shape=self.shape,
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True,
            check=False, env={**os.environ, **environment}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


LIBRARIES = [
    Library(
        "cuBLASLt", "13.0.0", "libcublasLt.so.13", "cublaslt_stand_in", "pynn_stand_in_products()",
        "set_large_product",
        "nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)", (8, 5),
    ),
    Library(
        "cuDNN", "9.1.0", "libcudnn.so.9", "cudnn_stand_in",
        "pynn_stand_in_convolutions(9)", "set_large_convolution",
        "nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 3)",
        (8, 2, 6, 6),
    ),
]  # fmt: skip
each = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)


@each
def test_without_the_library_pynn_computes(library, emulated):
    libraries, losses, text, _ = library.train(before="pynn._cuda.set_library_folders([])")
    assert f"{library.name} not found" in libraries
    assert library.name not in text
    assert losses[2] < losses[0]


@each
def test_a_library_that_cannot_begin(library, request):
    request.getfixturevalue(library.fixture)
    libraries, losses, text, _ = library.train(PYNN_STAND_IN_REFUSES="create")
    assert f"{library.name} {library.version}" in libraries
    assert library.name not in text
    assert losses[2] < losses[0]


@each
def test_a_device_that_is_lost_takes_handles_and_plans_with_it(library, request):
    request.getfixturevalue(library.fixture)
    after = f"""
    library = ctypes.CDLL({library.file!r}, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    counts = [library.pynn_stand_in_contexts(), library.{library.computed}]
    pynn._cuda.lose()
    losses += [step(x, y) for _ in range(3)]
    counts += [library.pynn_stand_in_contexts(), library.{library.computed}]
"""
    _, losses, text, counts = library.train(after=after.strip())
    contexts, computed, contexts_after, computed_after = counts
    assert text.count(f"({library.name}: y, dx, dw)") == 2
    assert (contexts, contexts_after) == (1, 2)
    assert computed_after - computed == 3 * 5
    assert losses[5] < losses[3]
