"""Initialisers: bounds, moments, orthogonality, dtypes, seeds, and what `get` takes."""

import math

import numpy as np
import pytest

from pynn import init
from pynn.errors import ShapeError

DENSE = (300, 200)  # fan_in 200, fan_out 300
KERNEL = (40, 30, 5, 3)  # fan_in 450, fan_out 600


def rng(seed=0):
    return np.random.default_rng(seed)


# name: (initialiser, shape, standard deviation); uniform ones reach sqrt(3) deviations.
UNIFORM = {
    "uniform": (init.uniform(-0.2, 0.2), DENSE, 0.2 / math.sqrt(3)),
    "glorot": (init.glorot_uniform(), DENSE, math.sqrt(2 / 500)),
    "glorot_gain": (init.glorot_uniform(gain=5 / 3), KERNEL, 5 / 3 * math.sqrt(2 / 1050)),
    "he": (init.he_uniform(), KERNEL, math.sqrt(2 / 450)),
    "he_leaky": (init.he_uniform(a=0.5), DENSE, math.sqrt(2 / (1.25 * 200))),
    "lecun": (init.lecun_uniform(), KERNEL, math.sqrt(1 / 450)),
    "torch": (init.torch_default, KERNEL, 1 / math.sqrt(450) / math.sqrt(3)),
    "torch_bias": (init.torch_default_bias(450), (20000,), 1 / math.sqrt(450) / math.sqrt(3)),
}
NORMAL = {
    "normal": (init.normal(0.0, 0.3), DENSE, 0.3),
    "glorot": (init.glorot_normal(gain=2.0), DENSE, 2 * math.sqrt(2 / 500)),
    "he": (init.he_normal(), KERNEL, math.sqrt(2 / 450)),
    "he_leaky": (init.he_normal(a=0.5), KERNEL, math.sqrt(2 / (1.25 * 450))),
    "lecun": (init.lecun_normal(), DENSE, math.sqrt(1 / 200)),
}


def check_moments(values, std, kurtosis):
    """Mean and variance lie within five of their own standard errors."""
    n = values.size
    assert abs(values.mean()) < 5 * std / math.sqrt(n)
    assert abs(values.var() / std**2 - 1) < 5 * math.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize(("initializer", "shape", "std"), UNIFORM.values(), ids=UNIFORM)
def test_uniform_fills_its_interval(initializer, shape, std):
    values = initializer(shape, rng(), np.float64)
    bound = math.sqrt(3) * std
    check_moments(values, std, kurtosis=9 / 5)
    assert np.abs(values).max() <= bound
    # The chance that n draws all stay below (1 - t) bound is (1 - t)^n: e^-20 here.
    assert np.abs(values).max() > bound * (1 - 20 / values.size)


@pytest.mark.parametrize(("initializer", "shape", "std"), NORMAL.values(), ids=NORMAL)
def test_normal_has_its_moments(initializer, shape, std):
    values = initializer(shape, rng(), np.float64)
    check_moments(values, std, kurtosis=3)
    assert np.mean(np.abs(values) < std) == pytest.approx(
        0.6827, abs=5 * math.sqrt(0.25 / values.size)
    )


def test_normal_has_its_mean():
    values = init.normal(3.0, 0.1)(DENSE, rng(), np.float64)
    assert values.mean() == pytest.approx(3.0, abs=5 * 0.1 / math.sqrt(values.size))


@pytest.mark.parametrize(
    "shape",
    [(6, 6), (4, 9), (9, 4), (8, 3, 3, 2), (40, 2, 3, 3), (1, 5)],
    ids=["square", "wide", "tall", "kernel_wide", "kernel_tall", "one_row"],
)
def test_orthogonal(shape):
    matrix = init.orthogonal(gain=2.0)(shape, rng(), np.float64).reshape(shape[0], -1)
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    # eps times the length of the dot products, times the square of the gain
    np.testing.assert_allclose(short @ short.T, 4 * np.eye(len(short)), atol=40 * 4 * 2**-52)


def test_orthogonal_favours_no_sign():
    """Without the correction by the signs of R, Householder QR gives first entries of one sign."""
    first = [init.orthogonal()((3, 3), rng(seed), np.float64)[0, 0] for seed in range(100)]
    assert 25 < np.sum(np.array(first) > 0) < 75  # 50 +- 5 deviations


def test_zeros_ones_constant():
    assert not init.zeros((2, 3), rng(), np.float32).any()
    assert (init.ones((2, 3), rng(), np.float32) == 1).all()
    assert (init.constant(0.5)((2, 3), rng(), np.float32) == 0.5).all()


NAMES = [
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "torch_default",
    "uniform",
    "zeros",
]


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 3, 2), (0, 5), (5, 0)])
@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_seed(name, shape):
    initializer = init.get(name)
    wide, narrow = initializer(shape, rng(1), np.float64), initializer(shape, rng(1), "float32")
    for values, dtype in ((wide, np.float64), (narrow, np.float32)):
        assert values.shape == shape
        assert values.dtype == dtype
        assert values.flags.c_contiguous
        assert values.flags.writeable
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))
    np.testing.assert_array_equal(initializer(shape, rng(1), np.float64), wide)
    if wide.size and name not in ("zeros", "ones"):
        assert (initializer(shape, rng(2), np.float64) != wide).any()


def test_one_generator_gives_each_parameter_its_own_values():
    generator = rng()
    first = init.torch_default((3, 3), generator, np.float64)
    assert (init.torch_default((3, 3), generator, np.float64) != first).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 5), (5, 3)), ((8, 4, 3, 2), (24, 48)), ((6, 1, 5, 5), (25, 150)), ((2, 3, 4), (12, 8))],
    ids=["dense", "conv", "depthwise", "one_dimension"],
)
def test_fan(shape, expected):
    assert init.fan(shape) == expected


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "orthogonal", "torch_default"])
def test_a_vector_has_no_fan(name):
    with pytest.raises(ShapeError, match=r"needs a shape \(out, in, \.\.\.\), got \(8,\)"):
        init.get(name)((8,), rng(), np.float32)


def test_bias_of_a_layer_without_inputs_is_zero():
    assert not init.torch_default_bias(0)((3,), rng(), np.float32).any()


def test_get_takes_numbers_and_functions():
    for number in (0.25, np.float32(0.25), 2, np.int64(2)):
        assert (init.get(number)((2,), rng(), np.float32) == number).all()
    assert init.get(init.zeros) is init.zeros
    own = lambda shape, rng, dtype: np.full(shape, 7, dtype)  # noqa: E731
    assert init.get(own) is own
    np.testing.assert_array_equal(
        init.get(init.he_normal)((3, 4), rng(), np.float64),
        init.he_normal()((3, 4), rng(), np.float64),
    )


def test_get_copies_an_array_and_checks_its_shape():
    values = np.arange(6.0).reshape(2, 3)
    initializer = init.get(values)
    values[:] = 0
    first = initializer((2, 3), rng(), np.float32)
    assert first.dtype == np.float32
    first[:] = 0
    np.testing.assert_array_equal(
        initializer((2, 3), rng(), np.float64), np.arange(6.0).reshape(2, 3)
    )
    with pytest.raises(ShapeError, match=r"must have shape \(3, 2\), got \(2, 3\)"):
        initializer((3, 2), rng(), np.float32)


def test_get_refuses_the_rest():
    with pytest.raises(ValueError, match="unknown initialiser 'xavier'; choose from") as refusal:
        init.get("xavier")
    assert str(refusal.value).endswith(", ".join(NAMES))
    with pytest.raises(TypeError, match="got list"):
        init.get([1.0, 2.0])


def test_torch_default_is_torch_default():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(30, 40, (5, 3))
    bound = 1 / math.sqrt(450)
    assert init.fan(KERNEL) == torch.nn.init._calculate_fan_in_and_fan_out(layer.weight)
    for parameter, initializer in (
        (layer.weight, init.torch_default),
        (layer.bias, init.torch_default_bias(450)),
    ):
        theirs = parameter.detach().numpy().astype(np.float64)
        ours = initializer(theirs.shape, rng(), np.float64)
        for values in (ours, theirs):
            assert np.abs(values).max() <= bound * (1 + 2**-23)  # theirs are drawn in float32
            check_moments(values, bound / math.sqrt(3), kurtosis=9 / 5)
