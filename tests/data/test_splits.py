import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.data import check_split, split_first, split_last, split_random

SEEDS = st.integers(0, 2**64 - 1)


@given(st.integers(0, 300), st.data())
def test_split_last_and_first(n, data):
    held_out = data.draw(st.integers(0, n))
    for split, held in (
        (split_last, range(n - held_out, n)),
        (split_first, range(held_out)),
    ):
        parts = split(n, held_out)
        check_split(n, parts)
        assert parts[1].tolist() == list(held)
        assert all(part.dtype == np.int64 for part in parts)


@given(st.lists(st.integers(0, 40), max_size=6), SEEDS)
def test_split_random(sizes, seed):
    parts = split_random(sum(sizes), sizes, seed)
    check_split(sum(sizes), parts)
    assert [len(part) for part in parts] == sizes
    again = split_random(sum(sizes), sizes, seed)
    assert [part.tolist() for part in parts] == [part.tolist() for part in again]


def test_sizes_only_cut_the_same_deal():
    whole = split_random(100, [100], 5)[0]
    np.testing.assert_array_equal(np.concatenate(split_random(100, [70, 0, 30], 5)), whole)
    assert (split_random(100, [100], 6)[0] != whole).any()


def test_splits_of_the_studies():
    train, valid = split_last(60000, 10000)
    assert (train[0], train[-1], valid[0], valid[-1]) == (0, 49999, 50000, 59999)
    assert [len(part) for part in split_random(1797, (1297, 200, 300), 0)] == [1297, 200, 300]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_last(5, 6), r"held_out must be in 0\.\.5, got 6"),
        (lambda: split_last(5, -1), "got -1"),
        (lambda: split_first(5, 6), "got 6"),
        (lambda: split_random(5, [2, 2], 0), r"sum to n = 5, got \(2, 2\)"),
        (lambda: split_random(5, [6, -1], 0), r"got \(6, -1\)"),
        (lambda: split_random(5, [5], -1), r"seed must be in 0\.\.2\*\*64-1, got -1"),
        (lambda: split_random(5, [5], 2**64), "seed must be"),
        (lambda: check_split(3, [[0, 1], [1, 2]]), "row 1 occurs 2 times"),
        (lambda: check_split(3, [[0], [1]]), "row 2 occurs 0 times"),
        (lambda: check_split(3, [[0, 1, 2, 3]]), r"row 3 is outside 0\.\.2"),
        (lambda: check_split(3, [[0, 1, -1]]), "row -1 is outside"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
