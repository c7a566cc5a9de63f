import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.data import check_split, split_by_class, split_first, split_last, split_random
from pynn.errors import DTypeError, LabelError, ShapeError

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


def test_split_by_class_deals_each_class():
    labels = np.repeat(np.arange(40), 10)
    parts = split_by_class(labels, (0.6, 0.2, 0.2), 3)
    check_split(400, parts)
    for part, each in zip(parts, (6, 2, 2), strict=True):
        assert np.bincount(labels[part]).tolist() == [each] * 40
    again = split_by_class(labels, (0.6, 0.2, 0.2), 3)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    other = split_by_class(labels, (0.6, 0.2, 0.2), 4)
    assert (parts[0] != other[0]).any()


@given(st.lists(st.integers(3, 30), min_size=1, max_size=5), SEEDS)
def test_split_by_class_of_any_sizes(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_by_class(labels[::-1], (0.6, 0.2, 0.2), seed)
    check_split(len(labels), parts)
    for part in parts:
        assert (np.bincount(labels[::-1][part], minlength=len(counts)) > 0).all()


def test_split_by_class_names_a_class_with_too_few_rows():
    labels = np.array([0] * 5 + [1] * 2)
    with pytest.raises(ValueError, match=r"class s2 has too few rows: 2, where 3 parts .* need 3"):
        split_by_class(labels, (0.6, 0.2, 0.2), 0, classes=("s1", "s2"))
    with pytest.raises(ValueError, match="class s3 has too few rows: 0"):
        split_by_class(labels, (0.8, 0.2), 0, classes=("s1", "s2", "s3"))
    with pytest.raises(ValueError, match="shares must be above 0 and sum to 1"):
        split_by_class(labels, (0.6, 0.2), 0)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0, 1, 2, 0, 1, 2], ("cat", "dog"), LabelError, r"label 2 at place 2 is outside 0\.\.1"),
        ([0, -1, 0], None, LabelError, r"label -1 at place 1 is outside 0\.\.0"),
        ([0.0, 1.5], None, DTypeError, "labels must hold integers, got dtype float64"),
        ([[0, 1], [1, 0]], None, ShapeError, r"one dimension, got shape \(2, 2\)"),
    ],
)
def test_split_by_class_loses_no_row(labels, classes, error, message):
    with pytest.raises(error, match=message):
        split_by_class(np.array(labels), (0.5, 0.5), 0, classes=classes)
