"""The loss over two weights, and trajectories there."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.testing import numerical_gradient
from pynn.train.landscape import LossSlice

RNG = np.random.default_rng(6)
X, Y = RNG.standard_normal((40, 5)), RNG.integers(0, 3, 40)
LOSS = nn.CrossEntropyLoss()
WEIGHTS = [("0.weight", (2, 1)), ("2.bias", (0,))]


def model():
    pynn.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Dropout(0.5))


def loss_slice(net=None, weights=WEIGHTS):
    return LossSlice(net or model(), LOSS, X, Y, weights)


def test_value_is_the_models_loss_with_two_weights_changed():
    net = model()
    two = loss_slice(net)
    point = two.origin + np.array([0.5, -0.25])
    got, at_origin = two(point), two(two.origin)
    net.astype("float64").eval()
    assert at_origin == pytest.approx(LOSS(net(X), Y), rel=1e-12)
    net[0].weight.data[2, 1], net[2].bias.data[0] = point
    assert got == pytest.approx(LOSS(net(X), Y), rel=1e-12)


def test_the_model_itself_stays_as_it_is():
    net = model()
    before = net.state_dict()
    two = loss_slice(net)
    two.trajectory([3, 3], lambda p: optim.SGD(p, lr=1.0), 3)
    assert net.training
    assert net.dtype == np.float32
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_gradient_against_finite_differences():
    two = loss_slice()
    point = two.origin + np.array([0.3, 0.7])
    value, gradient = two.gradient(point)
    assert value == two(point)
    moved = point.copy()
    np.testing.assert_allclose(
        gradient, numerical_gradient(lambda: two(moved), moved), rtol=1e-7, atol=1e-10
    )


def test_grid_has_the_first_weight_along_x():
    two = loss_slice()
    values = two.values([0.0, 1.0], [-1.0, 0.0, 1.0])
    assert values.shape == (3, 2)
    assert values[0, 1] == two([1.0, -1.0])
    assert values[2, 0] == two([0.0, 1.0])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_trajectory_follows_the_rule(momentum):
    two = loss_slice()
    path = two.trajectory([2, -1], lambda p: optim.SGD(p, lr=0.5, momentum=momentum), 6)
    point, velocity = np.array([2.0, -1.0]), np.zeros(2)
    for place, value in zip(path.points, path.losses, strict=True):
        np.testing.assert_allclose(place, point, rtol=1e-12)
        loss, gradient = two.gradient(point)
        assert value == pytest.approx(loss, rel=1e-12)
        velocity = momentum * velocity + gradient
        point = point - 0.5 * velocity
    assert path.points.shape == (7, 2)
    assert path.losses[-1] < path.losses[0]


def test_two_weights_of_the_same_parameter():
    two = loss_slice(weights=[("0.weight", (0, 0)), ("0.weight", (3, 4))])
    net = model()
    assert two.origin.tolist() == [net[0].weight.data[0, 0], net[0].weight.data[3, 4]]
    moved = two.origin.copy()
    expected = numerical_gradient(lambda: two(moved), moved)
    np.testing.assert_allclose(two.gradient(two.origin)[1], expected, rtol=1e-6, atol=1e-10)


def test_a_loss_that_is_not_finite_ends_the_trajectory():
    two = loss_slice()
    with pytest.raises(pynn.NonFiniteError, match=r"the loss is (inf|nan) after \d updates from"):
        two.trajectory([0, 0], lambda p: optim.SGD(p, lr=1e308), 5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([WEIGHTS[0]], "takes two different weights"),
        ([WEIGHTS[0]] * 2, "takes two different weights"),
        ([WEIGHTS[0], ("7.bias", (0,))], r"no '7\.bias', only 0\.weight, 0\.bias"),
        ([WEIGHTS[0], ("2.bias", (3,))], r"2\.bias has shape \(3,\), and no weight at \(3,\)"),
        ([WEIGHTS[0], ("0.weight", (1,))], r"no weight at \(1,\)"),
    ],
)
def test_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        loss_slice(weights=weights)
