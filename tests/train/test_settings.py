"""Settings of runs."""

import numpy as np
import pytest

from pynn.train.settings import grid, log_uniform, random_settings


def test_a_grid_has_all_combinations_that_are_wanted_the_last_axis_fastest():
    assert grid({"a": [1, 2], "b": "xy"}, where=lambda s: s != {"a": 2, "b": "x"}) == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "y"},
    ]  # fmt: skip
    assert grid({}) == [{}]


def test_random_settings_depend_on_the_seed_and_begin_alike():
    axes = {"lr": log_uniform(1e-3, 1), "units": [10, 20]}
    few, many = (random_settings(axes, count, seed=3) for count in (3, 200))
    assert many[:3] == few
    assert random_settings(axes, 3, seed=4) != few
    powers = np.log10([setting["lr"] for setting in many])
    assert -3 <= powers.min() < -2.8 < -0.2 < powers.max() <= 0
    assert {setting["units"] for setting in many} == {10, 20}
    only = random_settings(axes, 20, seed=0, where=lambda s: s["units"] == 10)
    assert {setting["units"] for setting in only} == {10}


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="0 < low <= high, got 0 and 1"):
        log_uniform(0, 1)
    with pytest.raises(ValueError, match="a thousand settings"):
        random_settings({"a": [1]}, 1, seed=0, where=lambda s: False)
