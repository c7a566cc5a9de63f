"""The dense kernels of pynn._core against PyTorch: matmul, linear, conv2d, bias and the pools."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from pynn import _core
from pynn.errors import DTypeError, ShapeError

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch, the oracle here, is not installed")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def draw(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)


def close(got, expected, terms, what=""):
    """Each of `terms` additions of values below about 1 may round by one eps, here and there."""
    assert got.shape == expected.shape, what
    assert got.dtype == expected.dtype, what
    eps = np.finfo(got.dtype).eps
    np.testing.assert_allclose(
        got, expected, rtol=4 * eps, atol=4 * eps * max(terms, 1), err_msg=what
    )


def with_gradients(function, dy, *arrays):
    """y and the gradients of sum(y * dy), by PyTorch."""
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*leaves)
    grads = torch.autograd.grad(y, leaves, torch.tensor(dy)) if y.numel() else None
    if grads is None:
        grads = [torch.zeros_like(leaf) for leaf in leaves]
    return y.detach().numpy(), [g.numpy() for g in grads]


MATMUL = {  # shapes of a and b
    "one_number": ((1, 1), (1, 1)),
    "row_times_matrix": ((1, 300), (300, 70)),
    "row_wide": ((1, 5), (5, 403)),
    "matrix_times_column": ((70, 300), (300, 1)),
    "one_over_a_tile": ((13, 17), (17, 33)),
    "several_blocks_of_k": ((40, 530), (530, 37)),
    "several_blocks_of_columns": ((14, 20), (20, 1100)),
    "stacked_times_one": ((2, 3, 4, 5), (5, 6)),
    "one_times_stacked": ((4, 5), (3, 5, 6)),
    "both_broadcast": ((3, 1, 4, 5), (2, 5, 6)),
    "no_rows": ((0, 5), (5, 6)),
    "no_columns": ((4, 5), (5, 0)),
    "nothing_to_sum": ((4, 0), (0, 6)),
    "no_batches": ((0, 4, 5), (1, 5, 6)),
}


@needs_torch
@dtypes
@pytest.mark.parametrize("name", MATMUL)
def test_matmul(name, dtype):
    a, b = (draw(shape, dtype, i) for i, shape in enumerate(MATMUL[name]))
    dy = draw(_core.matmul_shape(a.shape, b.shape), dtype, 2)
    y, grads = with_gradients(torch.matmul, dy, a, b)
    close(_core.matmul(a, b), y, a.shape[-1])
    terms = dy.size // max(min(dy.shape), 1) + 1
    for got, expected in zip(_core.matmul_backward(dy, a, b), grads, strict=True):
        close(got, expected, terms)


LINEAR = {  # shape of x, number of outputs, bias
    "one_row": ((1, 392), 32, True),
    "one_feature": ((7, 1), 1, True),
    "batch": ((64, 784), 100, True),
    "no_bias": ((37, 19), 10, False),
    "leading_axes": ((2, 3, 5, 7), 11, True),
    "many_outputs": ((3, 20), 1030, True),
    "long_sum": ((5, 1025), 6, True),
    "no_samples": ((0, 6), 4, True),
    "no_features": ((3, 0), 4, True),
    "no_outputs": ((3, 4), 0, True),
}


@needs_torch
@dtypes
@pytest.mark.parametrize("name", LINEAR)
def test_linear(name, dtype):
    shape, outputs, has_bias = LINEAR[name]
    x, w, b = draw(shape, dtype), draw((outputs, shape[-1]), dtype, 1), draw((outputs,), dtype, 2)
    rows = math.prod(shape[:-1])
    dy = draw((*shape[:-1], outputs), dtype, 3)
    # PyTorch's own linear crashes where there are no features.
    y, (dx, dw, db) = with_gradients(
        lambda x, w, b: x @ w.T + (b if has_bias else 0 * b), dy, x, w, b
    )
    close(_core.linear(x, w, b if has_bias else None), y, shape[-1])
    got = _core.linear_backward(dy, x, w, (True, True, has_bias))
    close(got[0], dx, outputs, "dx")
    close(got[1], dw, rows, "dw")
    if has_bias:
        close(got[2], db, rows, "db")
    else:
        assert got[2] is None


CONV2D = {  # shapes of x and w, then stride, padding, dilation, groups
    "one_pixel": ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    "rectangular": ((2, 3, 7, 5), (4, 3, 3, 2), 1, 0, 1, 1),
    "strided_last_row_unused": ((1, 2, 6, 6), (3, 2, 3, 3), 2, 0, 1, 1),
    "strides_differ": ((3, 2, 11, 9), (5, 2, 3, 3), (3, 2), 1, 1, 1),
    "dilated": ((2, 3, 13, 12), (4, 3, 3, 3), 1, 2, (2, 3), 1),
    "dilated_strided": ((2, 3, 13, 12), (4, 3, 3, 2), (2, 1), (3, 1), (3, 2), 1),
    "groups": ((3, 6, 9, 9), (8, 3, 3, 3), 1, 1, 1, 2),
    "depthwise": ((2, 8, 14, 14), (8, 1, 3, 3), 1, "same", 1, 8),
    "depthwise_two_each": ((2, 4, 7, 7), (8, 1, 3, 3), 2, 1, 1, 4),
    "pointwise": ((5, 20, 6, 6), (33, 20, 1, 1), 1, 0, 1, 1),
    "pointwise_large_image": ((2, 3, 30, 30), (5, 3, 1, 1), 1, 0, 1, 1),
    "pointwise_strided": ((2, 3, 7, 7), (5, 3, 1, 1), 2, 0, 1, 1),
    "pointwise_groups": ((2, 6, 30, 20), (4, 3, 1, 1), 1, 0, 1, 2),
    "lenet_second_layer": ((37, 20, 12, 12), (50, 20, 5, 5), 1, 0, 1, 1),
    "large_image": ((1, 2, 40, 31), (3, 2, 5, 5), 1, 2, 1, 1),
    "many_channels": ((2, 70, 5, 5), (14, 70, 3, 3), 1, 1, 1, 1),
    "kernel_of_the_image": ((19, 3, 8, 8), (10, 3, 8, 8), 1, 0, 1, 1),
    "kernel_over_a_block": ((2, 2, 18, 18), (3, 2, 18, 18), 1, 1, 1, 1),
    "same_even_kernel": ((2, 2, 7, 6), (3, 2, 4, 2), 1, "same", 1, 1),
    "same_strided": ((2, 2, 8, 7), (3, 2, 3, 3), 2, "same", 1, 1),
    "same_stride_over_kernel": ((2, 2, 8, 7), (3, 2, 2, 2), 3, "same", 1, 1),
    "full": ((2, 2, 4, 5), (3, 2, 3, 2), 1, "full", 1, 1),
    "valid": ((2, 2, 4, 5), (3, 2, 3, 2), 1, "valid", 1, 1),
    "four_sides": ((2, 2, 4, 5), (3, 2, 3, 3), 1, (0, 2, 3, 1), 1, 1),
    "padding_beyond_the_image": ((2, 2, 3, 3), (3, 2, 2, 2), 3, 5, 1, 1),
    "no_samples": ((0, 2, 5, 5), (3, 2, 3, 3), 1, 0, 1, 1),
    # In blocks of sixteen samples: forward and backward, or backward alone.
    "in_blocks": ((32, 20, 12, 12), (30, 20, 4, 4), 1, 0, 1, 1),
    "in_blocks_last_not_full": ((61, 8, 14, 14), (8, 8, 3, 3), 1, 1, 1, 1),
    "in_blocks_strided": ((16, 6, 19, 17), (40, 6, 5, 3), (2, 3), (2, 1), 1, 1),
    "in_blocks_dilated": ((16, 24, 15, 13), (32, 24, 3, 3), 1, (0, 3, 2, 1), (2, 1), 1),
    "in_blocks_pixel_by_pixel": ((16, 256, 5, 5), (320, 256, 1, 1), 1, 0, 1, 1),
    "in_blocks_many_channels": ((17, 40, 11, 10), (330, 40, 3, 3), 1, 1, 1, 1),
    "in_blocks_into_one_channel": ((96, 20, 14, 14), (1, 20, 5, 5), 1, "full", 1, 1),
}


def conv2d_by_torch(stride, padding, dilation, groups):
    top, bottom, left, right = padding

    def function(x, w, b):
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        return torch.nn.functional.conv2d(padded, w, b, stride, 0, dilation, groups)

    return function


@needs_torch
@dtypes
@pytest.mark.parametrize("name", CONV2D)
def test_conv2d(name, dtype):
    x_shape, w_shape, *options = CONV2D[name]
    x, w, b = draw(x_shape, dtype), draw(w_shape, dtype, 1), draw(w_shape[:1], dtype, 2)
    shape, stride, padding, dilation = _core.conv2d_geometry(x_shape, w_shape, b.shape, *options)
    if options[1] == "same":
        assert shape[2:] == tuple(-(-n // s) for n, s in zip(x_shape[2:], stride, strict=True))
    dy = draw(shape, dtype, 3)
    reference = conv2d_by_torch(stride, padding, dilation, options[3])
    y, (dx, dw, db) = with_gradients(reference, dy, x, w, b)
    close(_core.conv2d(x, w, b, *options), y, math.prod(w_shape[1:]))
    _core.conv2d_backward(-2 * dy, x, w, *options)  # leaves nothing behind
    got = _core.conv2d_backward(dy, x, w, *options)
    positions = shape[0] * shape[2] * shape[3]
    close(got[0], dx, math.prod(w_shape) // w_shape[1], "dx")
    close(got[1], dw, positions, "dw")
    close(got[2], db, positions, "db")
    without_bias = _core.conv2d(x, w, None, *options)
    close(without_bias + b[:, None, None], y, math.prod(w_shape[1:]), "without bias")


def test_conv2d_same_puts_the_odd_row_last():
    geometry = _core.conv2d_geometry((1, 1, 7, 7), (1, 1, 4, 2), None, 1, "same", 1, 1)
    assert geometry == ((1, 1, 7, 7), (1, 1), (1, 2, 0, 1), (1, 1))


def test_conv2d_without_anything_to_sum():
    b = draw((2,), np.float32)
    y = _core.conv2d(np.ones((1, 0, 3, 3), "f4"), np.ones((2, 0, 2, 2), "f4"), b, 1, 0, 1, 1)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], (1, 2, 2, 2)))
    empty = _core.conv2d(
        np.ones((2, 1, 0, 3), "f4"), np.ones((2, 1, 2, 2), "f4"), b, 1, "same", 1, 1
    )
    assert empty.shape == (2, 2, 0, 3)
    dx, dw, db = _core.conv2d_backward(
        empty, np.ones((2, 1, 0, 3), "f4"), np.ones((2, 1, 2, 2), "f4"), 1, "same", 1, 1
    )
    assert dx.shape == (2, 1, 0, 3)
    assert not dw.any()
    assert not db.any()


@dtypes
def test_only_the_wanted_gradients(dtype):
    x, w = draw((2, 2, 5, 5), dtype), draw((3, 2, 3, 3), dtype)
    dy = draw((2, 3, 3, 3), dtype)
    everything = _core.conv2d_backward(dy, x, w, 1, 0, 1, 1)
    for i in range(3):
        wanted = tuple(j == i for j in range(3))
        some = _core.conv2d_backward(dy, x, w, 1, 0, 1, 1, wanted)
        for j in range(3):
            if j == i:
                np.testing.assert_array_equal(some[j], everything[j])
            else:
                assert some[j] is None


@dtypes
@pytest.mark.parametrize("shape", [(4, 8, 7, 7), (3, 130), (1, 5), (0, 5), (5,), (2, 0)])
def test_bias(shape, dtype):
    x, b = draw(shape, dtype), draw(shape[1:], dtype, 1)
    np.testing.assert_array_equal(_core.bias(x, b), x + b)
    dx, db = _core.bias_backward(x)
    np.testing.assert_array_equal(dx, x)
    assert not np.shares_memory(dx, x)
    np.testing.assert_array_equal(db, x.astype(np.float64).sum(0).astype(dtype))


POOLS = {  # shape of x, then kernel size, stride, padding, ceil_mode
    "one_pixel": ((1, 1, 1, 1), 1, None, 0, False),
    "halves": ((3, 4, 8, 8), 2, None, 0, False),
    "halves_odd_image": ((2, 3, 7, 9), 2, None, 0, False),
    "halves_odd_image_ceil": ((2, 3, 7, 9), 2, None, 0, True),
    "overlapping": ((2, 3, 13, 13), 3, 2, 0, False),
    "overlapping_padded": ((2, 3, 12, 13), 3, 2, 1, False),
    "overlapping_padded_ceil": ((2, 3, 12, 13), 3, 2, 1, True),
    "ceil_drops_a_window": ((1, 1, 3, 3), 2, 3, 1, True),
    "rectangular": ((2, 2, 9, 8), (3, 2), (2, 3), (1, 0), False),
    "no_samples": ((0, 2, 4, 4), 2, None, 0, False),
}


@needs_torch
@dtypes
@pytest.mark.parametrize("name", POOLS)
def test_pools(name, dtype):
    x_shape, kernel, stride, padding, ceil_mode = POOLS[name]
    x = draw(x_shape, dtype)
    shape = _core.pool2d_geometry(x_shape, kernel, stride, padding, ceil_mode)[0]
    dy = draw(shape, dtype, 1)
    positions = math.prod((kernel, kernel) if isinstance(kernel, int) else kernel)

    functional = torch.nn.functional
    y, argmax = _core.max_pool2d(x, kernel, stride, padding, ceil_mode)
    expected, (dx,) = with_gradients(
        lambda x: functional.max_pool2d(x, kernel, stride, padding, 1, ceil_mode), dy, x
    )
    np.testing.assert_array_equal(y, expected)
    close(_core.max_pool2d_backward(dy, argmax, x_shape), dx, positions)
    assert argmax.dtype == np.int64
    if x.size:
        at = functional.max_pool2d(
            torch.tensor(x), kernel, stride, padding, 1, ceil_mode, return_indices=True
        )[1]
        np.testing.assert_array_equal(argmax, at.numpy())

    for counted in (False, True):
        expected, (dx,) = with_gradients(
            lambda x, c=counted: functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, c),
            dy,
            x,
        )
        close(_core.avg_pool2d(x, kernel, stride, padding, ceil_mode, counted), expected, positions)
        got = _core.avg_pool2d_backward(dy, x_shape, kernel, stride, padding, ceil_mode, counted)
        close(got, dx, positions)


def test_pools_pad_any_side():
    x = draw((2, 3, 5, 6), np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0)), constant_values=-np.inf)
    y, _ = _core.max_pool2d(x, 3, 1, (0, 1, 2, 0), False)
    np.testing.assert_array_equal(y, _core.max_pool2d(padded, 3, 1, 0, False)[0])
    mean = _core.avg_pool2d(x, 3, 1, (0, 1, 2, 0), False, True)
    padded[np.isinf(padded)] = 0
    close(mean, _core.avg_pool2d(padded, 3, 1, 0, False, True), 9)
    assert _core.pool2d_geometry((1, 1, 5, 6), 2, None, "same", False) == (
        (1, 1, 3, 3),
        (2, 2),
        (0, 1, 0, 0),
        (2, 2),
    )
    assert _core.pool2d_geometry((1, 1, 5, 6), 2, 1, "full", False)[0] == (1, 1, 6, 7)


def test_pools_without_channels():
    x = np.ones((2, 0, 4, 4))
    y, argmax = _core.max_pool2d(x, 2, None, 0, False)
    assert y.shape == argmax.shape == (2, 0, 2, 2)
    assert _core.max_pool2d_backward(y, argmax, x.shape).shape == x.shape
    assert _core.avg_pool2d(x, 2, None, 0, False, True).shape == y.shape


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_max_pool2d_ties_and_nan(kernel):
    x = np.zeros((1, 1, 4, 4))
    y, argmax = _core.max_pool2d(x, kernel, kernel, 0, False)
    first = np.arange(0, 4 - kernel + 1, kernel)
    np.testing.assert_array_equal(argmax[0, 0], first[:, None] * 4 + first)
    y, argmax = _core.max_pool2d(np.full_like(x, -np.inf), kernel, kernel, 0, False)
    np.testing.assert_array_equal(argmax[0, 0], first[:, None] * 4 + first)
    assert np.isneginf(y).all()
    x[0, 0, kernel - 1, kernel - 1] = np.nan
    x[0, 0, 0, kernel - 1] = np.nan
    y, argmax = _core.max_pool2d(x, kernel, kernel, 0, False)
    assert np.isnan(y[0, 0, 0, 0])
    assert argmax[0, 0, 0, 0] == kernel - 1


@dtypes
def test_global_avg_pool2d(dtype):
    x, dy = draw((3, 5, 7, 6), dtype), draw((3, 5, 1, 1), dtype, 1)
    exact = x.astype(np.float64).mean((2, 3), keepdims=True).astype(dtype)
    close(_core.global_avg_pool2d(x), exact, 1)
    dx = _core.global_avg_pool2d_backward(dy, x.shape)
    close(dx, np.broadcast_to(dy / dtype(42), x.shape), 1)
    assert _core.global_avg_pool2d(x[:0]).shape == (0, 5, 1, 1)


X, W = np.ones((2, 4, 5, 5), "f4"), np.ones((8, 4, 3, 3), "f4")
conv2d, pool = _core.conv2d, _core.max_pool2d
REFUSED = {  # what, error, part of the message
    "matmul_inner": (
        lambda: _core.matmul_shape((2, 3), (4, 5)),
        ShapeError,
        "matmul: a has 3 columns but b has 4 rows (shapes (2, 3) and (4, 5))",
    ),
    "matmul_vector": (
        lambda: _core.matmul_shape((3,), (3, 5)),
        ShapeError,
        "at least 2 dimensions",
    ),
    "matmul_leading": (
        lambda: _core.matmul_shape((2, 3, 3), (4, 3, 5)),
        ShapeError,
        "the leading axes of shapes (2, 3, 3) and (4, 3, 5) do not broadcast",
    ),
    "matmul_negative": (lambda: _core.matmul_shape((-2, 3), (3, 5)), ShapeError, "negative size"),
    "matmul_too_large": (
        lambda: _core.matmul_shape((2**40, 0), (0, 2**40)),
        ShapeError,
        "too large",
    ),
    "matmul_dtypes": (lambda: _core.matmul(X, X.astype("f8")), DTypeError, "b is float64"),
    "matmul_dy": (
        lambda: _core.matmul_backward(X[:1], X, X),
        ShapeError,
        "dy must have shape (2, 4, 5, 5), got (1, 4, 5, 5)",
    ),
    "linear_flatten": (
        lambda: _core.linear_shape((64, 8, 7, 7), (10, 392), None),
        ShapeError,
        "expected 392 input features, got 7 (input shape (64, 8, 7, 7)); "
        "is a Flatten missing before it?",
    ),
    "linear_features": (
        lambda: _core.linear_shape((64, 7), (10, 392), None),
        ShapeError,
        "expected 392 input features, got 7 (input shape (64, 7))",
    ),
    "linear_vector": (lambda: _core.linear_shape((7,), (10, 7), None), ShapeError, "(N, ..., 7)"),
    "linear_bias": (
        lambda: _core.linear_shape((2, 7), (10, 7), (7,)),
        ShapeError,
        "b must have shape (10,), got (7,)",
    ),
    "linear_weight": (
        lambda: _core.linear_shape((2, 7), (7,), None),
        ShapeError,
        "(out_features, in_f",
    ),
    "bias": (
        lambda: _core.bias_shape((2, 8, 7, 7), (8,)),
        ShapeError,
        "bias must have shape (8, 7, 7), got (8,)",
    ),
    "conv2d_dimensions": (
        lambda: conv2d(X[0], W, None, 1, 0, 1, 1),
        ShapeError,
        "expected an input of shape (N, C, H, W), got shape (4, 5, 5)",
    ),
    "conv2d_channels": (
        lambda: conv2d(X[:, :1], W, None, 1, 0, 1, 1),
        ShapeError,
        "expected 4 input channels, got 1 (input shape (2, 1, 5, 5))",
    ),
    "conv2d_groups": (
        lambda: conv2d(X, W, None, 1, 0, 1, 3),
        ShapeError,
        "groups=3 does not divide 8 output channels",
    ),
    "conv2d_no_groups": (
        lambda: conv2d(X, W, None, 1, 0, 1, 0),
        ShapeError,
        "groups must be at least 1",
    ),
    "conv2d_kernel": (
        lambda: conv2d(X, W, None, 1, 0, (1, 3), 1),
        ShapeError,
        "kernel (3, 3) with dilation (1, 3) does not fit the padded input (5, 5)",
    ),
    "conv2d_no_kernel": (
        lambda: conv2d(X, W[:, :, :0], None, 1, 0, 1, 1),
        ShapeError,
        "got (0, 3)",
    ),
    "conv2d_stride": (
        lambda: conv2d(X, W, None, 0, 0, 1, 1),
        ShapeError,
        "stride must be at least 1, got (0, 0)",
    ),
    "conv2d_huge_stride": (lambda: conv2d(X, W, None, 2**62, 0, 1, 1), ShapeError, "below 2**31"),
    "conv2d_endless_stride": (
        lambda: conv2d(X, W, None, 2**70, 0, 1, 1),
        ShapeError,
        "stride must be",
    ),
    "conv2d_dilation": (
        lambda: conv2d(X, W, None, 1, 0, (1, -1), 1),
        ShapeError,
        "dilation must be",
    ),
    "conv2d_huge_dilation": (
        lambda: conv2d(X, W, None, 1, "full", 2**31 - 1, 1),
        ShapeError,
        "too large",
    ),
    "conv2d_padding": (
        lambda: conv2d(X, W, None, 1, -1, 1, 1),
        ShapeError,
        "'valid', 'same' or 'full', got -1",
    ),
    "conv2d_padding_word": (lambda: conv2d(X, W, None, 1, "sane", 1, 1), ShapeError, "got 'sane'"),
    "conv2d_padding_three": (
        lambda: conv2d(X, W, None, 1, (1, 2, 3), 1, 1),
        ShapeError,
        "got (1, 2, 3)",
    ),
    "conv2d_padding_float": (lambda: conv2d(X, W, None, 1, 1.5, 1, 1), ShapeError, "got 1.5"),
    "conv2d_huge_padding": (
        lambda: conv2d(X, W, None, 1, 2**31 - 1, 1, 1),
        ShapeError,
        "too large",
    ),
    "conv2d_bias": (
        lambda: conv2d(X, W, np.ones(4, "f4"), 1, 0, 1, 1),
        ShapeError,
        "b must have shape (8,), got (4,)",
    ),
    "conv2d_weight": (
        lambda: conv2d(X, W[0], None, 1, 0, 1, 1),
        ShapeError,
        "w must have shape (O, C/gr",
    ),
    "conv2d_int": (lambda: conv2d(X.astype(int), W, None, 1, 0, 1, 1), DTypeError, "x must be"),
    "conv2d_dy": (
        lambda: _core.conv2d_backward(X, X, W, 1, 0, 1, 1),
        ShapeError,
        "dy must have shape (2, 8, 3, 3), got (2, 4, 5, 5)",
    ),
    "pool_padding": (
        lambda: pool(X, 2, 2, 2, False),
        ShapeError,
        "padding 2 must be smaller than the kernel 2",
    ),
    "pool_kernel": (lambda: pool(X, 6, 1, 0, False), ShapeError, "kernel (6, 6)"),
    "pool_empty": (lambda: pool(X[:, :, :0], 1, 1, 0, False), ShapeError, "at least one pixel"),
    "global_pool_empty": (
        lambda: _core.global_avg_pool2d(X[..., :0]),
        ShapeError,
        "at least one pixel",
    ),
    "argmax_outside": (
        lambda: _core.max_pool2d_backward(X, np.full(X.shape, 25), X.shape),
        ShapeError,
        "argmax has an entry outside 0..24",
    ),
    "argmax_negative": (
        lambda: _core.max_pool2d_backward(X, np.full(X.shape, -1), X.shape),
        ShapeError,
        "argmax has an entry outside 0..24",
    ),
    "argmax_dtype": (lambda: _core.max_pool2d_backward(X, X, X.shape), DTypeError, "int64"),
    "argmax_shape": (
        lambda: _core.max_pool2d_backward(X, np.zeros((1, 1, 1, 1), int), X.shape),
        ShapeError,
        "argmax must have shape",
    ),
    "argmax_planes": (
        lambda: _core.max_pool2d_backward(X, np.zeros(X.shape, int), (1, 4, 5, 5)),
        ShapeError,
        "dy must have shape (N, C, OH, OW)",
    ),
    "argmax_negative_shape": (
        lambda: _core.max_pool2d_backward(X, np.zeros(X.shape, int), (2, 4, -5, 5)),
        ShapeError,
        "negative size",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    call, error, text = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


@dtypes
def test_any_layout_gives_the_same(dtype):
    """Strided, reversed, misaligned and read-only arrays are what their values are."""
    x, w = draw((3, 4, 9, 8), dtype), draw((5, 4, 3, 3), dtype, 1)
    expected = _core.conv2d(x, w, None, 1, 1, 1, 1)
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = np.frombuffer(buffer.data, dtype, x.size, 1).reshape(x.shape)
    misaligned[...] = x
    misaligned.flags.writeable = False
    layouts = [np.asfortranarray(x), x[::-1].copy()[::-1], np.repeat(x, 2, 3)[..., ::2], misaligned]
    for layout in layouts:
        np.testing.assert_array_equal(_core.conv2d(layout, w, None, 1, 1, 1, 1), expected)


def everything(dtype):
    """Results of every kernel here, with shapes that several threads share."""
    results = []
    for a_shape, b_shape in [
        ((1, 600), (600, 1000)),
        ((200, 300), (300, 70)),
        ((4, 60, 50), (4, 50, 70)),
        ((300, 500), (500, 260)),  # in pieces, for which a thread packs b once
        ((1100, 1030), (1030, 1024)),  # or for each
    ]:
        a, b = draw(a_shape, dtype), draw(b_shape, dtype, 1)
        y = _core.matmul(a, b)
        results += [y, *_core.matmul_backward(y, a, b)]
    for x_shape, w_shape in [
        ((65, 300), (130, 300)),
        ((100, 784), (512, 784)),  # in pieces, of columns
        ((1201, 100), (96, 100)),  # and of rows, the last a single one
        ((48, 24000), (100, 24000)),  # too much to pack, and few outputs
    ]:
        x, w = draw(x_shape, dtype), draw(w_shape, dtype, 1)
        y = _core.linear(x, w, w[:, 0])
        results += [y, *_core.linear_backward(y, x, w)]
    for x_shape, w_shape, groups in [
        ((37, 4, 12, 12), (10, 4, 5, 5), 1),
        ((1, 8, 40, 40), (16, 4, 3, 3), 2),
        ((32, 20, 12, 12), (30, 20, 4, 4), 1),  # in blocks of sixteen samples
    ]:
        x, w = draw(x_shape, dtype), draw(w_shape, dtype, 1)
        y = _core.conv2d(x, w, w[:, 0, 0, 0], 1, 1, 1, groups)
        results += [y, *_core.conv2d_backward(y, x, w, 1, 1, 1, groups)]
    x = draw((16, 20, 24, 24), dtype)
    y, argmax = _core.max_pool2d(x, 3, 2, 1, True)
    results += [y, argmax, _core.max_pool2d_backward(y, argmax, x.shape)]
    y = _core.avg_pool2d(x, 3, 2, 1, True, False)
    results += [y, _core.avg_pool2d_backward(y, x.shape, 3, 2, 1, True, False)]
    results += [_core.global_avg_pool2d(x), _core.bias(x, x[0]), *_core.bias_backward(x)]
    return results


@dtypes
def test_threads_change_no_bit(dtype):
    before = _core.get_num_threads()
    try:
        digests = set()
        for threads in (1, 2, 3, 5, 8):
            _core.set_num_threads(threads)
            digests.add(
                hashlib.sha256(b"".join(r.tobytes() for r in everything(dtype))).hexdigest()
            )
    finally:
        _core.set_num_threads(before)
    assert len(digests) == 1


@dtypes
def test_a_part_of_a_batch_gives_the_same_bits(dtype):
    x, w = draw((40, 3, 6, 6), dtype), draw((7, 3, 3, 3), dtype, 1)
    y = _core.conv2d(x, w, None, 1, 1, 1, 1)
    np.testing.assert_array_equal(_core.conv2d(x[5:6], w, None, 1, 1, 1, 1), y[5:6])
    flat, matrix = x.reshape(40, -1), draw((9, 108), dtype)
    few, many = (slice(15), slice(5, 6)), (slice(40), slice(5, 25))  # fewer than 16, and more
    for whole, part in (few, many):
        y = _core.linear(flat[whole], matrix, None)
        np.testing.assert_array_equal(_core.linear(flat[part], matrix, None), y[part])


@pytest.mark.parametrize("isa", _core.config()["available_isas"])
def test_each_instruction_set_agrees(isa, tmp_path):
    script = (
        "import sys, numpy as np, pynn._core as core\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import test_dense_native as t\n"
        f"assert core.config()['isa'] == {isa!r}\n"
        "np.savez(sys.argv[1], *t.everything(np.float32), *t.everything(np.float64))\n"
    )
    path = tmp_path / "results.npz"
    subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, env={**os.environ, "PYNN_ISA": isa}
    )
    expected = [*everything(np.float32), *everything(np.float64)]
    with np.load(path) as got:
        for name, array in zip(got.files, expected, strict=True):
            # Gradients here are sums of at most 37 * 144 products whose factors reach about 10.
            if array.dtype.kind == "f":
                close(got[name], array, 4e4)
            else:
                np.testing.assert_array_equal(got[name], array)


def test_convolutions_that_see_far_beyond_small_images():
    """Plans of sixteen samples would be a halo of zeros, larger than the memory."""
    x, w = draw((16, 64, 8, 8), np.float32), draw((4, 64, 3, 3), np.float32)
    settings = ((1, 1), (400,) * 4, (400, 400), 1)
    y = _core.conv2d(x, w, None, *settings)
    np.testing.assert_array_equal(y[:8], _core.conv2d(x[:8], w, None, *settings))
    far = 2**29
    stride = 2**30 - 3, 2**30 - 1
    padding = far, stride[0] - far + 1, far, stride[1] - far + 1
    x, w = draw((16, 4, 1, 1), np.float32), draw((24, 4, 2, 2), np.float32)
    y = _core.conv2d(x, w, None, stride, padding, (1, 1), 1)
    dx, dw, _ = _core.conv2d_backward(y, x, w, stride, padding, (1, 1), 1)
    parts = [
        _core.conv2d_backward(y[half], x[half], w, stride, padding, (1, 1), 1)
        for half in (slice(8), slice(8, 16))
    ]
    np.testing.assert_array_equal(dx, np.concatenate([part[0] for part in parts]))
    np.testing.assert_allclose(dw, sum(part[1] for part in parts), rtol=1e-5, atol=1e-6)
