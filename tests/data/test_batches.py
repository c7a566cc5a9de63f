import itertools
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.data import Batches, _batches
from pynn.errors import DTypeError, LabelError, ShapeError

MASK = 2**64 - 1


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def permutation(n, seed, epoch):
    """The shuffle in plain Python: Fisher-Yates, Lemire's bounded integers, SplitMix64."""
    state = mix(mix(seed) ^ epoch)

    def word():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & MASK
        return mix(state) >> 32

    def below(bound):
        product = word() * bound
        while product % 2**32 < 2**32 % bound:
            product = word() * bound
        return product >> 32

    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = below(i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def permute(n, seed, epoch):
    order = np.empty(n, np.int64)
    _batches.permute(order, seed, epoch)
    return order


def data(n, *, dtype=np.uint8):
    """Images (n, 1, 2, 3) whose first pixel, and labels which, tell the row."""
    images = (np.arange(n * 6).reshape(n, 1, 2, 3) % 251).astype(dtype)
    return images, np.arange(n)


def rows_of(batches):
    return [int(label) for _, y in batches for label in y]


@given(st.integers(0, 200), st.integers(0, MASK), st.integers(0, MASK))
def test_shuffle_matches_plain_python(n, seed, epoch):
    assert permute(n, seed, epoch).tolist() == permutation(n, seed, epoch)


def test_shuffle_stays_as_it_is():
    # Written down once: orders may not change between versions, or training could not be resumed.
    assert permute(10, 0, 0).tolist() == [4, 9, 2, 5, 1, 7, 6, 0, 3, 8]
    assert permute(10, 42, 7).tolist() == [8, 1, 5, 7, 2, 4, 6, 3, 0, 9]


def test_shuffle_is_unbiased():
    # 24 000 epochs over the 24 orders of 4 rows: chi-squared with 23 degrees of freedom has mean 23
    # and deviation sqrt(46) = 6.8; the bound is 5 deviations up, and the draw is fixed.
    counts = Counter(tuple(permute(4, 1, epoch)) for epoch in range(24000))
    assert len(counts) == 24
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 23 + 5 * 6.8


@given(
    n=st.integers(0, 60),
    batch_size=st.integers(1, 70),
    options=st.fixed_dictionaries(
        {name: st.booleans() for name in ("shuffle", "drop_last", "reuse")}
    ),
    epoch=st.integers(0, 5),
)
def test_every_row_exactly_once(n, batch_size, options, epoch):
    images, labels = data(n)
    batches = Batches(images, labels, batch_size, seed=9, **options)
    order = batches.permutation(epoch)
    assert sorted(order.tolist()) == list(range(n))
    seen, sizes = [], []
    for x, y in batches.epoch(epoch):
        assert x.shape == (len(y), 1, 2, 3)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        np.testing.assert_array_equal(x, images[y] * np.float32(1 / 255))
        seen += y.tolist()
        sizes.append(len(y))
    assert len(sizes) == len(batches)
    kept = n - n % batch_size if options["drop_last"] else n
    assert seen == order[:kept].tolist()
    assert sizes == [min(batch_size, kept - start) for start in range(0, kept, batch_size)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("scale", [None, 1 / 255, 0.1, 1.0])
def test_scaling_is_exact(source, dtype, scale):
    images = np.arange(256).reshape(4, 64).astype(source)
    if source != np.uint8:
        images = images * source(np.pi) - 400
    batches = Batches(images, np.arange(4), 3, scale=scale, dtype=dtype)
    factor = scale if scale is not None else 1 / 255 if source == np.uint8 else 1.0
    for x, y in batches:
        assert x.dtype == dtype
        np.testing.assert_array_equal(x, images[y].astype(dtype) * dtype(factor))


def test_white_is_one():
    x, _ = next(iter(Batches(np.full((1, 4), 255, np.uint8), [0], 1)))
    assert (x == 1).all()


def test_epochs_differ_and_repeat():
    def make(**options):
        return Batches(*data(50), 8, **options)

    batches = make(seed=1)
    first, second = rows_of(batches), rows_of(batches)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))
    assert rows_of(make(seed=1)) == first
    assert rows_of(make(seed=2)) != first
    assert rows_of(make(seed=1).epoch(1)) == second
    resumed = make(seed=1)
    resumed.next_epoch = 1
    assert rows_of(resumed) == second
    assert resumed.next_epoch == 2
    plain = make(shuffle=False)
    assert rows_of(plain) == rows_of(plain) == list(range(50))


def test_order_does_not_depend_on_the_batch_size():
    assert rows_of(Batches(*data(50), 7)) == rows_of(Batches(*data(50), 50))


def test_reused_buffers_begin_with_a_line_of_the_cache():
    assert all(x.ctypes.data % 64 == 0 for x, _ in Batches(*data(12), 3, reuse=True))


def test_fresh_arrays_and_reused_buffers():
    kept = [x for x, _ in Batches(*data(12), 3)]
    assert all(not np.shares_memory(a, b) for a, b in itertools.combinations(kept, 2))
    reused = [(x, y) for x, y in Batches(*data(12), 3, reuse=True)]
    for (x0, y0), (x2, y2) in zip(reused, reused[2:], strict=False):
        assert np.shares_memory(x0, x2)
        assert np.shares_memory(y0, y2)
    for (x0, y0), (x1, y1) in itertools.pairwise(reused):
        assert not np.shares_memory(x0, x1)
        assert not np.shares_memory(y0, y1)


def test_buffers_are_no_larger_than_the_data():
    [(x, y)] = Batches(*data(5), 2**42, reuse=True)
    assert len(x) == len(y) == 5


def test_two_epochs_at_once_have_their_own_buffers():
    batches = Batches(*data(12), 3, reuse=True)
    for (x, y), (other, _) in zip(batches.epoch(0), batches.epoch(1), strict=True):
        assert not np.shares_memory(x, other)
        np.testing.assert_array_equal(x, batches.images[y] * np.float32(1 / 255))


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    result = raw[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


LAYOUTS = {
    "dense": lambda a: a.copy(),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "broadcast": lambda a: np.broadcast_to(a, a.shape),
    "read_only": read_only,
    "big_endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": misaligned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_layouts(layout, source):
    images, labels = data(20, dtype=source)
    changed = LAYOUTS[layout](images)
    batches = Batches(changed, LAYOUTS[layout](labels), 6, seed=4)
    for (x, y), (x_plain, y_plain) in zip(batches, Batches(images, labels, 6, seed=4), strict=True):
        np.testing.assert_array_equal(x, x_plain)
        np.testing.assert_array_equal(y, y_plain)
    if layout in {"dense", "read_only"}:
        assert np.shares_memory(batches.images, changed)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", ">i4", "uint64", "int64"])
def test_labels_of_any_integer(dtype):
    labels = np.arange(9).astype(dtype)
    _, y = next(iter(Batches(np.zeros((9, 2), np.uint8), labels, 9, shuffle=False)))
    assert y.dtype == np.int64
    assert y.tolist() == list(range(9))


def test_floating_and_multidimensional_targets():
    targets = np.linspace(0, 1, 24).reshape(4, 3, 2)
    for x, y in Batches(np.arange(4.0)[:, None], targets, 3):
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, targets.astype(np.float32)[x[:, 0].astype(int)])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0), (0, 1, 2, 2)])
def test_empty(shape):
    n = shape[0]
    batches = Batches(np.zeros(shape, np.uint8), np.zeros((n, 0), np.int64), 3)
    assert [x.shape for x, _ in batches] == ([] if n == 0 else [(3, 0), (1, 0)])


IMAGES, LABELS = data(5)
REFUSED = {
    "int_images": (lambda: Batches(IMAGES.astype(int), LABELS, 2), DTypeError, "got int64"),
    "half_images": (lambda: Batches(IMAGES.astype("f2"), LABELS, 2), DTypeError, "got float16"),
    "flat_images": (lambda: Batches(LABELS.astype("f4"), LABELS, 2), ShapeError, r"got \(5,\)"),
    "lengths": (lambda: Batches(IMAGES, LABELS[:4], 2), ShapeError, r"\(5, 1, 2, 3\) and \(4,\)"),
    "bool_labels": (lambda: Batches(IMAGES, LABELS > 2, 2), DTypeError, "got bool"),
    "text_labels": (lambda: Batches(IMAGES, list("abcde"), 2), DTypeError, "got <U1"),
    "durations": (lambda: Batches(IMAGES, LABELS.astype("m8[s]"), 2), DTypeError, "timedelta64"),
    "masked": (lambda: Batches(np.ma.array(IMAGES), LABELS, 2), DTypeError, "images must not be a"),
    "masked_labels": (
        lambda: Batches(IMAGES, np.ma.array(LABELS), 2),
        DTypeError,
        "labels must not be a masked",
    ),
    "one_label": (lambda: Batches(IMAGES, 3, 2), ShapeError, r"got \(\)"),
    "huge_label": (lambda: Batches(IMAGES, np.full(5, 2**63, "u8"), 2), LabelError, "2233720368"),
    "half": (lambda: Batches(IMAGES, LABELS, 2, dtype="f2"), DTypeError, "got float16"),
    "no_rows": (lambda: Batches(IMAGES, LABELS, 0), ValueError, "1 or more, got 0"),
    "broken_rows": (lambda: Batches(IMAGES, LABELS, 2.5), TypeError, "whole number, got 2.5"),
    "scale": (
        lambda: Batches(IMAGES, LABELS, 2, scale=np.nan),
        ValueError,
        "must be finite, got nan",
    ),
    "seed": (lambda: Batches(IMAGES, LABELS, 2, seed=-1), ValueError, "seed must be"),
    "epoch": (lambda: Batches(IMAGES, LABELS, 2).epoch(-1), ValueError, "epoch must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("row", [-1, 5, 2**62, -(2**63)])
def test_rows_are_checked_before_anything_is_written(row):
    rows = np.array([0, 1, row])
    x = np.full((3, 6), 7, np.float32)
    with pytest.raises(IndexError, match=rf"row {row} at place 2 is outside 0\.\.4"):
        _batches.gather(IMAGES.reshape(5, 6), rows, x, 1.0)
    assert (x == 7).all()
    y = np.full((3, 8), 7, np.uint8)
    with pytest.raises(IndexError, match="at place 2"):
        _batches.copy_rows(LABELS.reshape(5, 1).view(np.uint8), rows, y)
    assert (y == 7).all()


@pytest.mark.parametrize("shape", [(2, 6), (4, 6), (3, 5), (3, 7)])
def test_out_must_fit(shape):
    rows = np.arange(3)
    with pytest.raises(ValueError, match=r"out must have shape \(3, 6\)"):
        _batches.gather(IMAGES.reshape(5, 6), rows, np.empty(shape, np.float32), 1.0)
    with pytest.raises(ValueError, match=r"out must have shape \(3, 6\)"):
        _batches.copy_rows(IMAGES.reshape(5, 6), rows, np.empty(shape, np.uint8))


@pytest.mark.parametrize("name", ["permute", "gather", "copy_rows"])
def test_gil_is_released(name):
    rows = np.zeros(2**22, np.int64)
    source = np.zeros((1, 8), np.uint8)
    call = {
        "permute": lambda: _batches.permute(rows.copy(), 0, 0),
        "gather": lambda: _batches.gather(source, rows, np.empty((2**22, 8), np.float32), 1.0),
        "copy_rows": lambda: _batches.copy_rows(source, rows, np.empty((2**22, 8), np.uint8)),
    }[name]
    busy = threading.Event()

    def work():
        for _ in range(5):
            busy.set()
            call()
            busy.clear()

    turns = 0
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        turns += busy.is_set()
        time.sleep(0)
    assert turns > 200  # thousands; with the GIL held there is a turn or two for each call
