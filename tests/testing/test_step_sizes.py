"""Errors of central differences for several steps, beside what calculus says of them."""

import numpy as np
import pytest

from pynn.testing.step_sizes import difference_errors


def cubes(weights):
    """The loss whose differences are off by the square of the step: (a + h)^3 - (a - h)^3 =
    2h (3 a^2 + h^2)."""
    return lambda: float((weights**3).sum())


def test_the_error_is_the_square_of_the_step():
    weights = np.array([[0.5, -1.0], [0.25, 2.0]])
    steps = [0.5, 0.1, 0.01]
    found = difference_errors(cubes(weights), weights, 3 * weights**2, steps, [0, 1, 2, 3])
    assert found == pytest.approx([0.25, 1e-2, 1e-4], rel=1e-8)
    assert [type(error) for error in found] == [float] * 3


def test_rounding_takes_over_where_the_step_is_small():
    weights = np.array([1.0, 2.0])
    coarse, good, fine = difference_errors(
        lambda: float(np.exp(weights).sum()), weights, np.exp(weights), [1e-1, 1e-5, 1e-12], [0, 1]
    )
    assert coarse == pytest.approx(np.exp(2) * 1e-2 / 6, rel=1e-2)  # h^2 f''' / 6, of the larger
    assert good < 1e-8
    assert fine > 1e-6


def test_only_the_places_that_are_asked_for_count():
    weights = np.arange(6.0).reshape(2, 3)
    gradient = 3 * weights**2
    gradient[1, 0] += 7  # place 3
    asked = []

    def loss():
        asked.append(weights.copy())
        return cubes(weights)()

    start = weights.copy()
    assert difference_errors(loss, weights, gradient, [0.5], (1, 5)) == pytest.approx([0.25])
    assert {tuple(np.flatnonzero(each != start)) for each in asked} == {(1,), (5,)}
    assert difference_errors(loss, weights, gradient, [0.5], (3, 5)) == pytest.approx([6.75])
    np.testing.assert_array_equal(weights, start)


def test_weights_are_changed_in_place_so_they_must_be_contiguous():
    weights = np.ones((3, 2)).T
    with pytest.raises(ValueError, match="C-contiguous"):
        difference_errors(cubes(weights), weights, 3 * weights**2, [0.1], [0])
