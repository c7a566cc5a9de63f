"""The gradient one weight at a time equals that of the backward pass."""

import itertools

import numpy as np
import pytest

import pynn
from pynn import nn
from pynn.testing.one_weight import derivative, descend_one_by_one

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((20, 6)), RNG.integers(0, 3, 20)
LOSS = nn.CrossEntropyLoss(reduction="sum")
INDICES = list(itertools.product(range(3), range(6)))


def layer(**options):
    pynn.manual_seed(0)
    return nn.Linear(6, 3, dtype="float64", **options)


def backward_pass(model):
    model.zero_grad()
    LOSS(model(X), Y)
    model.backward(LOSS.backward())
    return model.weight.grad


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_each_derivative_is_that_of_the_backward_pass(backend, bias):
    model = layer(bias=bias)
    with pynn.backend(backend):
        got = [derivative(model, LOSS, X, Y, index) for index in INDICES]
        expected = backward_pass(model)
    np.testing.assert_allclose(got, expected.reshape(-1), rtol=1e-12, atol=1e-13)


def test_each_update_sees_those_before_it():
    model, by_hand = layer(), layer()
    descend_one_by_one(model, LOSS, X, Y, INDICES, lr=0.1)
    start = by_hand.weight.data.copy()
    at_once = start - 0.1 * backward_pass(by_hand)
    for index in INDICES:
        by_hand.weight.data[index] -= 0.1 * backward_pass(by_hand)[index]
    np.testing.assert_allclose(model.weight.data, by_hand.weight.data, rtol=1e-12)
    assert np.abs(model.weight.data - at_once).max() > 1e-3


def test_other_weights_stay():
    model = layer()
    before = model.weight.data.copy()
    descend_one_by_one(model, LOSS, X, Y, [(1, 2)], lr=0.1)
    assert np.flatnonzero(model.weight.data != before).tolist() == [8]
