"""The array rule of the reference is that of the bindings, word for word."""

import numpy as np
import pytest

from pynn import _core, reference
from pynn.errors import DTypeError
from pynn.reference import arrays

ROW = np.array([-1.0, 2.0, 3.0])
REFUSED = {
    "list": ([1.0], "x must be a NumPy array of float32 or float64, got list"),
    "number": (1.0, "got float"),
    "scalar": (np.float32(1), "got float32"),
    "none": (None, "got NoneType"),
    "integers": (np.arange(3), "got dtype int64; convert it first, with x.astype('float32')"),
    "half": (ROW.astype(np.float16), "got dtype float16; convert"),
    "complex": (ROW.astype(complex), "got dtype complex128"),
    "objects": (ROW.astype(object), "got dtype object"),
    "byte_order": (
        ROW.astype(ROW.dtype.newbyteorder()),
        "f8); convert it first, with x.astype('float64')",
    ),
    "masked": (np.ma.masked_array(ROW), "got a masked array; fill it first, with x.filled(value)"),
}
ACCEPTED = {
    "empty": ROW[:0],
    "no_axes": np.array(-2.0),
    "strided": ROW[::-2],
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "misaligned": np.frombuffer(b"\0" + ROW.tobytes(), np.uint8)[1:].view(np.float64),
    "subclass": ROW.view(np.memmap),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_the_words_of_the_bindings(value, message):
    with pytest.raises(DTypeError) as ours:
        reference.relu(value)
    assert message in str(ours.value)
    with pytest.raises(DTypeError) as theirs:
        _core.relu(value)
    assert str(ours.value) == str(theirs.value)


def test_refuses_mixed_dtypes_in_the_words_of_the_bindings():
    with pytest.raises(DTypeError, match="dy is float32 but the other arrays are float64") as ours:
        reference.relu_backward(ROW.astype(np.float32), ROW)
    with pytest.raises(DTypeError) as theirs:
        _core.relu_backward(ROW.astype(np.float32), ROW)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("x", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts_what_the_bindings_accept(x):
    y, expected = reference.relu(x), _core.relu(x)
    np.testing.assert_array_equal(y, expected)
    for got in (y, expected):
        assert type(got) is np.ndarray
        assert got.shape == x.shape
        assert got.flags.c_contiguous
        assert got.flags.aligned


def test_updates_in_place_need_a_writable_dense_array():
    g = np.ones(4)
    read_only = np.ones(4)
    read_only.flags.writeable = False
    for p in (np.ones(8)[::2], read_only):
        with pytest.raises(DTypeError, match="p is updated in place and must be a writable"):
            reference.sgd_update(p, g, None, 0.1, 0.0, False, False, 0.0)
    with pytest.raises(DTypeError, match="velocity must be float64, got float32"):
        reference.sgd_update(np.ones(4), g, np.ones(4, np.float32), 0.1, 0.9, False, False, 0.0)
    assert arrays.in_place("p", g, g) is g
