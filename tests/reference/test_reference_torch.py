"""The NumPy reference against PyTorch: values, and gradients by autograd, in float64."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from pynn import reference
from pynn.reference.philox import philox4x32

torch = pytest.importorskip("torch", reason="the oracle of these tests, torch, is not installed")
F = torch.nn.functional

# Sums here have at most a few hundred terms of order one, and rounding errors of 2^-53 each.
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}
FLOAT32_TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}  # the same with 2^-24


class Case(NamedTuple):
    op: str
    shapes: tuple[tuple[int, ...] | None, ...]  # of the inputs; None is an array left out
    torch: Callable[..., Any]
    forward: Callable[..., Any]  # (*inputs) -> y
    backward: Callable[..., Any]  # (dy, y, *inputs, **needs) -> gradients

    def inputs(self):
        rng = np.random.default_rng(0)
        return [None if shape is None else rng.normal(size=shape) for shape in self.shapes]


def all_inputs(y, *inputs):
    return inputs


def x_and_w(y, x, w, b):
    return x, w


def output(y, *inputs):
    return (y,)


def shapes(y, *inputs):
    return tuple(x.shape for x in inputs)


def nothing(y, *inputs):
    return ()


def case(op, shapes, theirs, *attributes, saved=all_inputs):
    """An operator whose backward takes dy, what is `saved`, and the attributes again."""
    forward, backward = getattr(reference, op), getattr(reference, f"{op}_backward")
    return Case(
        op,
        shapes,
        theirs,
        lambda *inputs: forward(*inputs, *attributes),
        lambda dy, y, *inputs, **needs: backward(dy, *saved(y, *inputs), *attributes, **needs),
    )


def linear(x, w, b):
    return case("linear", (x, w, b), F.linear, saved=x_and_w)


def conv2d(x, w, b, sides=(0, 0, 0, 0), stride=1, padding=0, dilation=1, groups=1):
    """`sides` (top, bottom, left, right) is what `padding` has to mean here."""
    top, bottom, left, right = sides

    def theirs(x, w, b):
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, w, b, stride, 0, dilation, groups)

    return case("conv2d", (x, w, b), theirs, stride, padding, dilation, groups, saved=x_and_w)


def max_pool2d(x, kernel, stride=None, padding=0, ceil_mode=False):
    def forward(x):
        return reference.max_pool2d(x, kernel, stride, padding, ceil_mode)

    return Case(
        "max_pool2d",
        (x,),
        lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode),
        lambda x: forward(x)[0],
        lambda dy, y, x: reference.max_pool2d_backward(dy, forward(x)[1], x.shape),
    )


def avg_pool2d(x, *attributes):  # kernel, stride, padding, ceil_mode, count_include_pad
    return case(
        "avg_pool2d", (x,), lambda x: F.avg_pool2d(x, *attributes), *attributes, saved=shapes
    )


def batch_norm(x, affine=(3,), training=True, eps=1e-3):
    def statistics(dtype):  # the running ones: not used in training, so they need not be there
        return (None, None) if training else (np.arange(3, dtype=dtype), np.ones(3, dtype) / 4)

    def theirs(x, weight, bias):
        running = [None if s is None else torch.from_numpy(s) for s in statistics(np.float64)]
        return F.batch_norm(x, *running, weight, bias, training, eps=eps)

    def forward(x, weight, bias):
        return reference.batch_norm(x, *statistics(x.dtype), weight, bias, training, eps)

    def backward(dy, y, x, weight, bias, **needs):
        _, mean, var = forward(x, weight, bias)
        return reference.batch_norm_backward(dy, x, mean, var, weight, training, eps, **needs)

    return Case(
        "batch_norm", (x, affine, affine), theirs, lambda *inputs: forward(*inputs)[0], backward
    )


def concat(axis, *shapes):
    return Case(
        "concat",
        shapes,
        lambda *parts: torch.cat(parts, axis),
        lambda *parts: reference.concat(parts, axis),
        lambda dy, y, *parts: reference.concat_backward(
            dy, [part.shape[axis] for part in parts], axis
        ),
    )


def pad2d(x, padding, sides):
    top, bottom, left, right = sides
    return Case(
        "pad2d",
        (x,),
        lambda x: F.pad(x, (left, right, top, bottom), value=1.5),
        lambda x: reference.pad2d(x, padding, 1.5),
        lambda dy, y, x: reference.pad2d_backward(dy, padding),
    )


IMAGES = (2, 3, 7, 6)
KERNELS = (4, 3, 3, 3)
CASES = {
    "matmul": case("matmul", ((3, 4), (4, 5)), torch.matmul),
    "matmul_batch": case("matmul", ((2, 3, 4), (2, 4, 5)), torch.matmul),
    "matmul_broadcast": case("matmul", ((6, 1, 3, 4), (2, 4, 5)), torch.matmul),
    "linear": linear((5, 7), (4, 7), (4,)),
    "linear_no_bias": linear((5, 7), (4, 7), None),
    "linear_leading_axes": linear((2, 3, 7), (4, 7), (4,)),
    "linear_empty": linear((0, 7), (4, 7), (4,)),
    "conv2d": conv2d(IMAGES, (4, 3, 3, 2), (4,)),
    "conv2d_no_bias": conv2d(IMAGES, KERNELS, None, (1, 1, 1, 1), padding=1),
    "conv2d_stride_skips_last_row": conv2d((2, 3, 8, 8), KERNELS, (4,), stride=(2, 3)),
    "conv2d_dilation": conv2d((1, 2, 9, 9), (3, 2, 3, 3), (3,), stride=2, dilation=(2, 3)),
    "conv2d_groups": conv2d((2, 6, 5, 5), KERNELS, (4,), groups=2),
    "conv2d_depthwise": conv2d((2, 3, 5, 5), (6, 1, 3, 3), (6,), groups=3),
    "conv2d_pair": conv2d(IMAGES, KERNELS, (4,), (2, 2, 1, 1), padding=(2, 1)),
    "conv2d_four": conv2d(IMAGES, KERNELS, (4,), (0, 1, 2, 3), padding=(0, 1, 2, 3)),
    "conv2d_valid": conv2d(IMAGES, KERNELS, (4,), padding="valid"),
    "conv2d_same_even": conv2d(IMAGES, (4, 3, 2, 4), (4,), (0, 1, 1, 2), padding="same"),
    "conv2d_same_stride": conv2d(IMAGES, KERNELS, (4,), (1, 1, 0, 1), padding="same", stride=2),
    "conv2d_full": conv2d(IMAGES, (4, 3, 3, 2), (4,), (4, 4, 2, 2), padding="full", dilation=2),
    "conv2d_empty": conv2d((0, 3, 5, 5), KERNELS, (4,)),
    "bias": case("bias", ((4, 2, 3), (2, 3)), torch.add, saved=nothing),
    "max_pool2d": max_pool2d(IMAGES, 2),
    "max_pool2d_overlap": max_pool2d(IMAGES, (3, 2), stride=(2, 1), padding=1),
    "max_pool2d_ceil": max_pool2d(IMAGES, 3, stride=2, padding=1, ceil_mode=True),
    "max_pool2d_ceil_drops_last": max_pool2d((1, 1, 5, 5), 2, stride=3, padding=1, ceil_mode=True),
    "max_pool2d_gaps": max_pool2d((1, 2, 8, 8), 2, stride=3),
    "max_pool2d_empty": max_pool2d((0, 3, 6, 6), 2),
    "avg_pool2d": avg_pool2d(IMAGES, 2, None, 0, False, True),
    "avg_pool2d_padding": avg_pool2d(IMAGES, 3, 2, 1, False, True),
    "avg_pool2d_exclude": avg_pool2d(IMAGES, 3, 2, 1, False, False),
    "avg_pool2d_ceil": avg_pool2d(IMAGES, (4, 3), 3, 1, True, True),
    "avg_pool2d_ceil_exclude": avg_pool2d(IMAGES, (4, 3), 3, 1, True, False),
    "global_avg_pool2d": case(
        "global_avg_pool2d", (IMAGES,), lambda x: F.adaptive_avg_pool2d(x, 1), saved=shapes
    ),
    "relu": case("relu", ((5, 4),), F.relu, saved=output),
    "leaky_relu": case("leaky_relu", ((5, 4),), lambda x: F.leaky_relu(x, 0.1), 0.1),
    "leaky_relu_negative": case("leaky_relu", ((5, 4),), lambda x: F.leaky_relu(x, -0.5), -0.5),
    "tanh": case("tanh", ((5, 4),), torch.tanh, saved=output),
    "sigmoid": case("sigmoid", ((5, 4),), torch.sigmoid, saved=output),
    "softmax": case("softmax", ((5, 4),), lambda x: F.softmax(x, 1), 1, saved=output),
    "softmax_inner": case("softmax", ((2, 4, 3),), lambda x: F.softmax(x, -2), -2, saved=output),
    "log_softmax": case("log_softmax", ((5, 4),), lambda x: F.log_softmax(x, 1), 1, saved=output),
    "log_softmax_inner": case(
        "log_softmax", ((2, 4, 3),), lambda x: F.log_softmax(x, -2), -2, saved=output
    ),
    "batch_norm_dense": batch_norm((9, 3)),
    "batch_norm_images": batch_norm((4, 3, 2, 5)),
    "batch_norm_plain": batch_norm((4, 3, 2, 5), affine=None),
    "batch_norm_eval": batch_norm((4, 3, 2, 5), training=False),
    "batch_norm_eval_plain": batch_norm((1, 3), affine=None, training=False),
    "add": case("add", ((2, 3), (2, 3)), torch.add, saved=shapes),
    "add_broadcast": case("add", ((2, 1, 4), (3, 1)), torch.add, saved=shapes),
    "mul": case("mul", ((2, 3), (2, 3)), torch.mul),
    "mul_broadcast": case("mul", ((3, 1), (2, 1, 4)), torch.mul),
    "concat": concat(1, (2, 3, 2), (2, 1, 2), (2, 4, 2)),
    "concat_last": concat(-1, (2, 3), (2, 1)),
    "pad2d": pad2d(IMAGES, 2, (2, 2, 2, 2)),
    "pad2d_pair": pad2d(IMAGES, (0, 1), (0, 0, 1, 1)),
    "pad2d_four": pad2d(IMAGES, (0, 1, 2, 3), (0, 1, 2, 3)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def values_and_gradients(case, inputs):
    """y, dy and the gradients of the inputs that are there."""
    y = case.forward(*inputs)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    gradients = case.backward(dy, y, *inputs)
    gradients = [gradients] if isinstance(gradients, np.ndarray) else gradients
    pairs = zip(gradients, inputs, strict=True)
    return y, dy, [gradient for gradient, x in pairs if x is not None]


@each_case
def test_values_and_gradients_are_those_of_torch(case):
    inputs = case.inputs()
    y, dy, gradients = values_and_gradients(case, inputs)
    tensors = [None if x is None else torch.tensor(x, requires_grad=True) for x in inputs]
    y_torch = case.torch(*tensors)
    y_torch.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(y, y_torch.detach().numpy(), **TOLERANCE)
    for gradient, tensor in zip(gradients, filter(torch.is_tensor, tensors), strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), **TOLERANCE)


@each_case
def test_float32_and_any_strides(case):
    """float32 stays float32; inputs may be strided and read-only; results are dense and new."""
    inputs = case.inputs()
    y64, _, gradients64 = values_and_gradients(case, inputs)
    narrow = [None if x is None else np.asfortranarray(x.astype(np.float32)) for x in inputs]
    for x in filter(lambda x: x is not None, narrow):
        x.flags.writeable = False
    y32, dy, gradients32 = values_and_gradients(case, narrow)
    for got, expected in zip((y32, *gradients32), (y64, *gradients64), strict=True):
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert not any(np.shares_memory(got, x) for x in (*narrow, dy) if x is not None)
        np.testing.assert_allclose(got, expected, **FLOAT32_TOLERANCE)


@each_case
def test_only_the_gradients_that_are_needed(case):
    backward = getattr(reference, f"{case.op}_backward")
    if "needs" not in inspect.signature(backward).parameters:
        assert len(case.shapes) == 1 or case.op == "concat"
        return
    inputs = case.inputs()
    y = case.forward(*inputs)
    dy = np.ones_like(y)
    everything = case.backward(dy, y, *inputs)
    for wanted in range(len(everything)):
        needs = tuple(i == wanted for i in range(len(everything)))
        for i, gradient in enumerate(case.backward(dy, y, *inputs, needs=needs)):
            if i == wanted:
                np.testing.assert_array_equal(gradient, everything[i])
            else:
                assert gradient is None


def test_every_operator_is_in_the_table():
    backwards = {name for name in reference.__all__ if name.endswith("_backward")}
    assert backwards == {f"{case.op}_backward" for case in CASES.values()}


def test_flatten_and_reshape_copy():
    x = np.arange(24.0).reshape(2, 3, 4)
    for y in (
        reference.flatten(x, 1),
        reference.reshape(x, (2, 12)),
        reference.reshape(x, (-1, 12)),
        reference.reshape(x, (2, -1)),
    ):
        np.testing.assert_array_equal(y, x.reshape(2, 12))
        assert not np.shares_memory(x, y)
    assert reference.flatten(x, 2).shape == (2, 3, 4)


# Infinities, NaN and ties ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        [1e30, -1e30, 0.0],
        [math.nan, 1.0, 2.0],
        [math.inf, 1.0, 2.0],
        [-math.inf, 1.0, 2.0],
        [-math.inf, -math.inf, -math.inf],
    ],
    ids=["large", "nan", "inf", "minus_inf", "all_minus_inf"],
)
@pytest.mark.parametrize("op", ["softmax", "log_softmax", "tanh", "sigmoid", "relu"])
def test_special_values(op, row):
    axis = (0,) if "softmax" in op else ()
    for dtype in (np.float32, np.float64):
        x = np.array(row, dtype)
        expected = getattr(torch, op)(torch.from_numpy(x), *axis).numpy()
        np.testing.assert_allclose(getattr(reference, op)(x, *axis), expected, rtol=1e-6)


@pytest.mark.parametrize("op", ["relu", "leaky_relu"])
def test_gradient_at_zero(op):
    slope = (0.1,) if op == "leaky_relu" else ()
    x = np.array([0.0, -0.0, 1e-300, -1e-300])
    tensor = torch.tensor(x, requires_grad=True)
    getattr(F, op)(tensor, *slope).sum().backward()
    dx = getattr(reference, f"{op}_backward")(np.ones(4), x, *slope)
    np.testing.assert_array_equal(dx, tensor.grad.numpy())


def test_max_pool2d_ties_nan_and_infinite_images():
    nan, inf = math.nan, math.inf
    x = np.zeros((1, 4, 4, 4))
    x[0, 1] = -inf
    x[0, 2, 1:3, 1:3] = [[nan, 9], [nan, inf]]
    x[0, 3] = np.arange(16).reshape(4, 4) % 3
    for attributes in ((2, 2, 0, False), (3, 1, 1, False), (2, 3, 1, True)):
        kernel, stride, padding, ceil_mode = attributes
        y, argmax = reference.max_pool2d(x, *attributes)
        y_torch, argmax_torch = F.max_pool2d(
            torch.from_numpy(x), kernel, stride, padding, 1, ceil_mode, return_indices=True
        )
        np.testing.assert_array_equal(y, y_torch.numpy())
        # Where a window holds two NaN PyTorch names the last one; here it is the first.
        same = argmax == argmax_torch.numpy()
        assert (same | np.isnan(y)).all()
        assert argmax.dtype == np.int64
        assert (
            np.take_along_axis(x.reshape(1, 4, 16), argmax.reshape(1, 4, -1), 2).ravel()
            == y.ravel()
        )[~np.isnan(y.ravel())].all()
    _, argmax = reference.max_pool2d(x, 4, None, 0, False)
    assert argmax[0, :, 0, 0].tolist() == [0, 0, 5, 2]


# Losses ----------------------------------------------------------------------------------------

rng = np.random.default_rng(2)
LABELS, LABELS_2D = rng.integers(0, 4, 6), rng.integers(0, 4, (2, 3, 2))
PROBABILITIES = rng.dirichlet(np.ones(4), 6)
WEIGHT = np.array([0.5, 2.0, 0.0, 1.5])
# name: (shape of the logits, target, weight, label_smoothing, ignore_index)
CROSS_ENTROPY = {
    "labels": ((6, 4), LABELS, None, 0.0, None),
    "labels_weight": ((6, 4), LABELS, WEIGHT, 0.0, None),
    "labels_smooth": ((6, 4), LABELS, None, 0.3, None),
    "labels_ignore": ((6, 4), LABELS, None, 0.0, int(LABELS[0])),
    "labels_all": ((6, 4), LABELS, WEIGHT, 0.3, int(LABELS[0])),
    "labels_ignore_outside": ((6, 4), np.where(LABELS == 1, -100, LABELS), None, 0.1, -100),
    "labels_2d": ((2, 4, 3, 2), LABELS_2D, WEIGHT, 0.3, None),
    "probabilities": ((6, 4), PROBABILITIES, None, 0.0, None),
    "probabilities_smooth": ((6, 4), PROBABILITIES, None, 1.0, None),
    "probabilities_weight": ((6, 4), PROBABILITIES, WEIGHT, 0.3, None),
    "probabilities_2d": ((2, 4, 3), PROBABILITIES.reshape(2, 3, 4).mT, WEIGHT, 0.0, None),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("row", CROSS_ENTROPY.values(), ids=CROSS_ENTROPY)
def test_cross_entropy(row, reduction):
    shape, target, weight, smoothing, ignore_index = row
    logits = np.random.default_rng(0).normal(size=shape) * 3
    loss, gradient = reference.cross_entropy(
        logits, target, weight, smoothing, ignore_index, reduction, True
    )
    tensor = torch.tensor(logits, requires_grad=True)
    expected = F.cross_entropy(
        tensor,
        torch.tensor(target),
        None if weight is None else torch.tensor(weight),
        ignore_index=-12345 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    expected.sum().backward()
    assert type(loss) is (np.ndarray if reduction == "none" else float)
    np.testing.assert_allclose(loss, expected.detach().numpy(), **TOLERANCE)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), **TOLERANCE)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i4", "u8", ">i2", ">u8"])
def test_cross_entropy_takes_labels_of_any_integer_dtype(dtype):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    options = (None, 0.0, 1, "mean", True)
    loss, gradient = reference.cross_entropy(logits, LABELS.astype(dtype), *options)
    expected, expected_gradient = reference.cross_entropy(logits, LABELS, *options)
    assert loss == expected
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize(
    ("target", "weight", "ignore_index"),
    [([1, 1, 1], None, 1), ([2, 2, 2], WEIGHT, None), ([], None, None)],
    ids=["ignored", "no_weight", "no_samples"],
)
def test_a_mean_over_nothing_is_zero(target, weight, ignore_index):
    logits = np.full((len(target), 4), math.nan if ignore_index else 1.0)
    loss, gradient = reference.cross_entropy(
        logits, np.array(target, np.int64), weight, 0.0, ignore_index, "mean", True
    )
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(
    "target",
    [np.array([1, 0, 1, 1, 0, 2, 0]), np.eye(3)[[1, 0, 1, 1, 0, 2, 0]]],
    ids=["labels", "probabilities"],
)
def test_cross_entropy_of_hard_logits(target, smoothing):
    nan, inf = math.nan, math.inf
    rows = [[1e30, -1e30, 0], [inf, 0, 0], [nan, 0, 0], [-inf, 3, 0], [-inf, 3, 0], [nan, 0, 0]]
    logits, weight = np.array([*rows, [1, 2, -inf]], np.float64), np.array([1.0, 1.0, 0.0])
    loss, gradient = reference.cross_entropy(logits, target, weight, smoothing, None, "none", True)
    tensor = torch.tensor(logits, requires_grad=True)
    expected = F.cross_entropy(
        tensor,
        torch.from_numpy(target),
        torch.from_numpy(weight),
        label_smoothing=smoothing,
        reduction="none",
    )
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach().numpy(), **TOLERANCE)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), **TOLERANCE)


def test_ignored_positions_count_for_nothing_even_where_they_are_nan():
    logits = np.array([[math.nan, 1.0], [1.0, 1.0]])
    loss, gradient = reference.cross_entropy(logits, np.array([-1, 0]), None, 0.1, -1, "mean", True)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5 - 0.95, 0.5 - 0.05]], rtol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction):
    prediction, target = np.random.default_rng(0).normal(size=(2, 5, 3))
    loss, gradient = reference.mse_loss(prediction, target, reduction, True)
    tensor = torch.tensor(prediction, requires_grad=True)
    expected = F.mse_loss(tensor, torch.tensor(target), reduction=reduction)
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach().numpy(), **TOLERANCE)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), **TOLERANCE)


# Random numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_known_answers(counter, key, expected):
    """The vectors of Random123's kat_vectors, philox4x32 with 10 rounds."""
    assert philox4x32(np.array(counter, np.uint64), key).tolist() == expected


def test_philox_counts_quads_of_words():
    words = reference.philox(7, 1, 2, 3, 10)
    assert words.dtype == np.uint32
    for element in range(10):
        block = philox4x32(np.array([1, 2, 3, element // 4], np.uint64), 7)
        assert words[element] == block[element % 4]
    np.testing.assert_array_equal(words, reference.philox(7, 1 + 2**32, 2, 3, 10))
    assert reference.philox(7, 1, 2, 3, 0).shape == (0,)


def test_dropout():
    x = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    x[0, 0, 0] = math.nan
    y = reference.dropout(x, 0.4, 5, 1, 2, 2**32 - 1)
    for n, sample in enumerate((2**32 - 1, 0, 1)):  # counted modulo 2^32
        kept = reference.philox(5, 1, 2, sample, 10).reshape(2, 5) >= int(0.4 * 2**32)
        np.testing.assert_array_equal(y[n], np.where(kept, x[n] * np.float32(1 / 0.6), 0))
    word = reference.philox(5, 1, 2, 0, 10)
    y = reference.dropout(np.ones((1, 10)), word[3] / 2**32, 5, 1, 2, 0)
    np.testing.assert_array_equal(y[0] == 0, word < word[3])  # the threshold itself stays
    np.testing.assert_array_equal(reference.dropout(x, 0.0, 5, 1, 2, 0), x)
    assert not reference.dropout(x, 1.0, 5, 1, 2, 0).any()
    assert reference.dropout(x[:0], 0.5, 5, 1, 2, 0).shape == (0, 2, 5)
    with pytest.raises(ValueError, match="p must"):
        reference.dropout(x, 1.5, 5, 1, 2, 0)


@pytest.mark.parametrize(("p", "block_size"), [(0.3, 1), (0.3, 3), (0.3, 9), (0.0, 3), (1.0, 1)])
def test_drop_block2d(p, block_size):
    n, channels, height, width = shape = (3, 2, 7, 5)
    size = min(block_size, 5)
    x = np.random.default_rng(0).normal(size=shape)
    y = reference.drop_block2d(x, p, block_size, 5, 1, 2, 4)
    gamma = p / size**2 * height * width / ((height - size + 1) * (width - size + 1))
    for sample in range(n):
        word = reference.philox(5, 1, 2, 4 + sample, x[0].size).reshape(x[0].shape)
        kept = np.ones(x[0].shape, bool)
        for c, h, w in np.ndindex(channels, height - size + 1, width - size + 1):
            if word[c, h, w] < int(gamma * 2**32):
                kept[c, h : h + size, w : w + size] = False
        expected = x[sample] * kept * (kept.size / max(kept.sum(), 1))
        np.testing.assert_allclose(y[sample], expected, rtol=1e-15)
    assert reference.drop_block2d(x[:0], p, block_size, 5, 1, 2, 4).shape == (0, 2, 7, 5)


# Optimisers ------------------------------------------------------------------------------------


def sgd(momentum=0.0, nesterov=False, weight_decay=0.0):
    def update(p, g, state, step):
        velocity = state[0] if momentum else None
        reference.sgd_update(p, g, velocity, 0.1, momentum, nesterov, False, weight_decay)

    return update, lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )


def adam(optimizer, weight_decay):
    def update(p, g, state, step):
        decoupled = optimizer is torch.optim.AdamW
        reference.adam_update(p, g, *state, step, 0.1, 0.9, 0.99, 1e-8, weight_decay, decoupled)

    return update, lambda p: optimizer(
        p, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=weight_decay
    )


def rmsprop(momentum=0.0, weight_decay=0.0):
    def update(p, g, state, step):
        velocity = state[1] if momentum else None
        reference.rmsprop_update(p, g, state[0], velocity, 0.1, 0.9, 1e-8, momentum, weight_decay)

    return update, lambda p: torch.optim.RMSprop(
        p, lr=0.1, alpha=0.9, eps=1e-8, momentum=momentum, weight_decay=weight_decay
    )


OPTIMIZERS = {
    "sgd": sgd(),
    "sgd_decay": sgd(weight_decay=0.1),
    "sgd_momentum": sgd(momentum=0.9, weight_decay=0.1),
    "sgd_nesterov": sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": adam(torch.optim.Adam, 0.0),
    "adam_decay": adam(torch.optim.Adam, 0.1),
    "adamw": adam(torch.optim.AdamW, 0.1),
    "rmsprop": rmsprop(),
    "rmsprop_momentum": rmsprop(momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize(("update", "optimizer"), OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_are_those_of_torch(update, optimizer, dtype):
    rng = np.random.default_rng(0)
    p = rng.normal(size=9).astype(dtype)
    state = np.zeros((2, 9), dtype)
    tensor = torch.tensor(p, requires_grad=True)
    theirs = optimizer([tensor])
    for step in range(1, 6):
        g = rng.normal(size=9).astype(dtype)
        update(p, g, state, step)
        tensor.grad = torch.from_numpy(g.copy())
        theirs.step()
        # Five steps of order one, a dozen roundings each.
        np.testing.assert_allclose(
            p, tensor.detach().numpy(), rtol=0, atol=60 * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("nesterov", [False, True])
def test_averaged_momentum_is_scaled_momentum(nesterov):
    """An averaged velocity is (1 - momentum) times the plain one: the same as a smaller rate."""
    rng = np.random.default_rng(0)
    p = rng.normal(size=9)
    q, velocity, average = p.copy(), np.zeros(9), np.zeros(9)
    for _ in range(5):
        g = rng.normal(size=9)
        reference.sgd_update(p, g, velocity, 0.01, 0.9, nesterov, False, 0.0)
        reference.sgd_update(q, g, average, 0.1, 0.9, nesterov, True, 0.0)
        np.testing.assert_allclose(p, q, **TOLERANCE)


def test_sum_of_squares():
    g = np.array([3e30, 4e30], np.float32)
    assert reference.sum_of_squares(g) == pytest.approx(25e60, rel=1e-7)
    assert reference.sum_of_squares(g[:0]) == 0.0
