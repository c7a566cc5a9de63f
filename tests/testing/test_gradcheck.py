"""Finite differences: orders, terms, losses, and what a comparison says."""

import numpy as np
import pytest

import pynn
from pynn import nn, ops
from pynn.testing import gradcheck, numerical_gradient
from pynn.testing.gradcheck import compare

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((20, 6)), RNG.integers(0, 4, 20)


def terms(logits):
    return ops.cross_entropy(logits, Y, reduction="none", return_grad=True)


def classifier():
    pynn.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4))


def test_error_falls_with_the_square_or_the_fourth_power_of_the_step():
    a = np.array([0.3, 1.1])
    for order, gain in ((2, 100), (4, 10_000)):
        errors = [
            np.abs(
                numerical_gradient(lambda: np.exp(a).sum(), a, eps=eps, order=order) - np.exp(a)
            ).max()
            for eps in (0.1, 0.01)
        ]
        assert errors[0] / errors[1] == pytest.approx(gain, rel=0.02)
    np.testing.assert_array_equal(a, [0.3, 1.1])


def test_terms_without_influence_bring_in_no_rounding():
    a = np.array([0.5])
    huge = np.full(1000, 1e9)

    def parts():
        return np.concatenate([huge, np.sin(a)])

    sharp = numerical_gradient(parts, a, order=4, eps=1e-3)
    coarse = numerical_gradient(lambda: parts().sum(), a, order=4, eps=1e-3)
    assert abs(sharp[0] - np.cos(0.5)) < 1e-12
    assert abs(coarse[0] - np.cos(0.5)) > 1e-4


def test_terms_may_lie_in_memory_that_the_function_uses_again():
    a, memory = np.array([0.5]), np.empty(1)
    assert numerical_gradient(lambda: np.square(a, out=memory), a)[0] == pytest.approx(1)


def test_elements_are_restored_when_the_function_fails():
    a = np.array([1.0, 2.0])

    def fails():
        raise RuntimeError("no value")

    with pytest.raises(RuntimeError, match="no value"):
        numerical_gradient(fails, a)
    np.testing.assert_array_equal(a, [1.0, 2.0])


def test_unknown_order():
    with pytest.raises(ValueError, match="order must be 2 or 4, got 3"):
        numerical_gradient(lambda: 0.0, np.zeros(1), order=3)


def test_loss_of_a_model_each_weight_on_its_own():
    report = gradcheck(
        classifier(), X, loss=terms, check_inputs=False, order=4, eps=1e-3, max_elements=None
    )
    assert [(c.name, c.elements) for c in report.comparisons] == [("0.weight", 24), ("0.bias", 4)]
    assert report.error < 1e-11
    assert report.own_error < 1e-9


def test_wrong_gradient_of_a_loss_is_found_and_named():
    def wrong(logits):
        values, gradient = terms(logits)
        return values, gradient * (1 + 1e-5)

    with pytest.raises(AssertionError, match=r"0\.weight: relative error 1\.00e-05"):
        gradcheck(classifier(), X, loss=wrong, check_inputs=False, order=4, eps=1e-3)


def test_a_loss_alone_with_gradients_of_inputs():
    loss = nn.CrossEntropyLoss(reduction="sum")
    report = gradcheck(
        classifier(), X, loss=lambda logits: loss.value_and_gradient(logits, Y), max_elements=None
    )
    assert [c.name for c in report.comparisons] == ["input 0", "0.weight", "0.bias"]


def test_own_error_is_relative_to_each_element():
    computed, expected = np.array([100.0, 1e-3, 0.0]), np.array([100.0, 1.1e-3, 0.0])
    found = compare("w", computed, expected, np.arange(3), (3,))
    assert found.error == pytest.approx(1e-6)
    assert found.own_error == pytest.approx(1 / 11)
    assert (found.index, found.elements) == ((1,), 3)


def test_a_gradient_that_is_not_a_number_is_found_wherever_it_is():
    ops.register(
        "scaled", lambda x, w: x * w, lambda dy, x, w: (dy * w, np.full(w.shape, np.nan, w.dtype))
    )
    try:
        with pytest.raises(AssertionError, match="input 1: relative error nan"):
            gradcheck(ops.scaled, [np.ones((4, 3)), np.ones((4, 3))])
    finally:
        ops.unregister("scaled")


def test_a_module_without_parameters():
    assert gradcheck(nn.MaxPool2d(2), np.arange(32.0).reshape(2, 1, 4, 4)).error < 1e-8
