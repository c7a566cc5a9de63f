"""Winograd's minimal filtering, which is off until it is asked for."""

import numpy as np
import pytest

import pynn
from pynn import _core, nn, ops, optim

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def winograd():
    pynn.set_winograd(True)
    yield
    pynn.set_winograd(False)


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
