"""Winograd's minimal filtering, which is off until it is asked for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import pynn
from pynn import _core, nn, ops, optim

RNG = np.random.default_rng(0)


class Residual(nn.Module):
    """Gradients of images that are added to others."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(41, 41, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = nn.relu(self.first(x)) + x
        return nn.relu(self.second(y)) + y


NETWORKS = {
    "same": ((40, 14, 14), lambda: nn.Conv2d(40, 53, 3, padding="same")),
    "odd": ((48, 9, 11), lambda: nn.Sequential(nn.Conv2d(48, 40, 3, padding=1), nn.ReLU())),
    "full": ((40, 14, 13), lambda: nn.Conv2d(40, 44, 3, padding="full", bias=False)),
    "without_padding": ((64, 8, 10), lambda: nn.Conv2d(64, 64, 3)),
    "uneven_padding": (
        (40, 20, 17), lambda: nn.Sequential(nn.Conv2d(40, 40, 3, padding=(3, 0, 1, 4)), nn.Tanh()),
    ),
    "groups": ((80, 10, 10), lambda: nn.Conv2d(80, 96, 3, padding=1, groups=2)),
    "deep": (
        (40, 13, 13),
        lambda: nn.Sequential(
            nn.Conv2d(40, 72, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(72, 56, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(2016, 4),
        ),
    ),
    "residual": ((41, 8, 8), Residual),
}  # fmt: skip


@pytest.fixture(autouse=True)
def winograd():
    pynn.set_winograd(True)
    yield
    pynn.set_winograd(False)


def run(name, batch, dtype="float64", backend="native"):
    """Output, dx and gradients of a network in training mode."""
    shape, make = NETWORKS[name]
    pynn.manual_seed(3)
    with pynn.backend(backend):
        model = make().astype(dtype)
        rng = np.random.default_rng(1)
        x = rng.standard_normal((batch, *shape)).astype(dtype)
        y = model(x)
        dx = model.backward(rng.standard_normal(y.shape).astype(dtype))
    if backend == "native" and batch >= 16:
        assert "Winograd" in model.plan((batch, *shape)).explain()
    return {"y": y, "dx": dx, **{path: p.grad for path, p in model.named_parameters()}}


@pytest.mark.parametrize("batch", [5, 16, 35])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_the_reference(name, batch):
    expected = run(name, batch, backend="numpy")
    for path, array in run(name, batch).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-9, atol=1e-10, err_msg=path)
    for path, array in run(name, batch, "float32").items():
        np.testing.assert_allclose(array, expected[path], rtol=5e-4, atol=5e-4, err_msg=path)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_on_any_number_of_threads(name):
    before = pynn.get_num_threads()
    try:
        pynn.set_num_threads(1)
        expected = run(name, 35, "float32")
        for threads in (2, 3, 5, 8):
            pynn.set_num_threads(threads)
            for path, array in run(name, 35, "float32").items():
                assert array.tobytes() == expected[path].tobytes(), (threads, path)
    finally:
        pynn.set_num_threads(before)


SCRIPT = """
import json, sys
import pynn
sys.path.insert(0, sys.argv[1])
from executors.test_winograd import NETWORKS, run
pynn.set_winograd(True)
print(json.dumps([[name, {k: v.ravel().tolist() for k, v in run(name, 20, "float32").items()}]
                  for name in NETWORKS]))
"""


@pytest.mark.parametrize("isa", _core.config()["available_isas"])
def test_every_instruction_set(isa):
    tests = os.path.dirname(os.path.dirname(__file__))
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, tests], env=os.environ | {"PYNN_ISA": isa},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name, arrays in json.loads(result.stdout):
        expected = run(name, 20, backend="numpy")
        for path, values in arrays.items():
            np.testing.assert_allclose(
                values, expected[path].ravel(), rtol=5e-4, atol=5e-4, err_msg=f"{name} {path}"
            )


@pytest.mark.parametrize("channels", [40, 256])
@pytest.mark.parametrize("least", [-np.inf, 0])
def test_errors_are_no_larger_than_those_of_plain_sums(channels, least):
    x = np.maximum(RNG.standard_normal((16, channels, 14, 14)), least)
    w = RNG.standard_normal((64, channels, 3, 3)) / 48
    exact, single = ops.conv2d(x, w, padding=1), (x.astype("f"), w.astype("f"))
    transformed = ops.conv2d(*single, padding=1)
    pynn.set_winograd(False)
    plain = ops.conv2d(*single, padding=1)
    assert transformed.tobytes() != plain.tobytes()
    errors = [np.sqrt(np.mean((y - exact) ** 2)) for y in (transformed, plain)]
    assert errors[0] < errors[1], errors


def test_single_operators():
    x, dy = (RNG.standard_normal((32, channels, 12, 12)) for channels in (64, 48))
    w, b = RNG.standard_normal((48, 64, 3, 3)), RNG.standard_normal(48)

    def results():
        return ops.conv2d(x, w, b, padding=1), *_core.conv2d_backward(dy, x, w, 1, 1, 1, 1)

    transformed = results()
    pynn.set_winograd(False)
    plain = results()
    for array, expected in zip(transformed, plain, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-9, atol=1e-9)
    changed = [a.tobytes() != b.tobytes() for a, b in zip(transformed, plain, strict=True)]
    assert changed == [True, True, False, False]  # y, dx; dw and db are plain sums


def test_whoever_turns_it_off_has_the_bits_from_before():
    x, y = RNG.random((32, 40, 8, 8)).astype("f"), RNG.integers(0, 4, 32)

    def train(switches):
        pynn.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(40, 40, 3), nn.Flatten(), nn.Linear(1440, 4))
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
        losses = []
        for wanted in switches:
            pynn.set_winograd(wanted)
            assert pynn.get_winograd() is wanted
            losses.append(step(x, y))
            assert ("Winograd" in step.plan(x.shape).explain()) is wanted
        evaluated = []
        for wanted in (False, True, False):
            pynn.set_winograd(wanted)
            evaluated.append(model.eval()(x))
        assert evaluated[0].tobytes() == evaluated[2].tobytes() != evaluated[1].tobytes()
        return losses

    plain, mixed, transformed = train([False] * 4), train([False, True] * 2), train([True] * 4)
    assert plain[0] == mixed[0]
    assert len({plain[3], mixed[3], transformed[3]}) == 3
    np.testing.assert_allclose(mixed, plain, rtol=1e-4)
    np.testing.assert_allclose(transformed, plain, rtol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_through_its_tiles(value):
    model = nn.Conv2d(40, 40, 3, padding=1).eval()
    x = RNG.random((20, 40, 10, 10)).astype("f")
    plain = model(x)
    x[3, 7, 4, 4] = value
    y = model(x)
    touched = np.zeros(y.shape, bool)
    touched[3, :, 2:6, 2:6] = True  # tiles of 2 x 2 that read the pixel
    assert not np.isfinite(y[3, :, 3:6, 3:6]).any()
    np.testing.assert_array_equal(y[~touched], plain[~touched])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Conv2d(40, 40, 3, stride=2), (40, 12, 12)),
        (lambda: nn.Conv2d(40, 40, 3, dilation=2), (40, 12, 12)),
        (lambda: nn.Conv2d(40, 40, (3, 5)), (40, 12, 12)),
        (lambda: nn.Conv2d(16, 64, 3), (16, 12, 12)),
        (lambda: nn.Conv2d(64, 64, 3, groups=4), (64, 12, 12)),
        (lambda: nn.Conv2d(64, 64, 3), (64, 3, 3)),  # a tile would be mostly beyond the image
    ],
)
def test_what_it_does_not_suit_is_computed_as_ever(layer, shape):
    model = layer()
    x = RNG.random((16, *shape)).astype("f")
    y = model(x)
    assert "Winograd" not in model.plan(x.shape).explain()
    pynn.set_winograd(False)
    assert y.tobytes() == model(x).tobytes()


@pytest.mark.parametrize("wanted", [1, "yes", None, 0.0])
def test_it_is_on_or_off(wanted):
    with pytest.raises(TypeError, match="bool"):
        pynn.set_winograd(wanted)
