"""The kernels without windows or matrices, against PyTorch, NumPy and published numbers."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from pynn import _core
from pynn.errors import DTypeError, LabelError, ShapeError

DTYPES = [np.float32, np.float64]
INF, NAN = np.inf, np.nan


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_near(got, expected, terms=1, scale=1.0):
    """Within the rounding of `terms` operations on values of size `scale`, exp and log included."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    bound = 8 * np.finfo(got.dtype).eps * max(terms, 1)
    np.testing.assert_allclose(got, expected, rtol=bound, atol=bound * scale)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


# Forward and backward beside PyTorch ------------------------------------------------------------
# name: shapes of the inputs, terms in a sum, forward, backward(dy, *inputs, y), the same in PyTorch
def drop_last(function):
    """backward(dy, y) as backward(dy, x, y)."""
    return lambda dy, x, y: (function(dy, y),)


def batch_norm_backward(dy, x, w, b, y):
    _, mean, var = _core.batch_norm(x, None, None, w, b, True, 1e-5)
    return _core.batch_norm_backward(dy, x, mean, var, w, True, 1e-5)


def batch_norm_eval(x, mean, var, w):
    return _core.batch_norm(x, mean, var * var, w, None, False, 1e-5)[0]


def batch_norm_eval_backward(dy, *kept):
    x, mean, var, w, _ = kept
    dx, dw, _ = _core.batch_norm_backward(dy, x, mean, var * var, w, False, 1e-5)
    return dx, None, None, dw


def binary(name, a, b):
    def backward(dy, x, z, y):
        if name == "add":
            return _core.add_backward(dy, x.shape, z.shape)
        return _core.mul_backward(dy, x, z)

    terms = max(np.prod(np.broadcast_shapes(a, b)) // max(min(np.prod(a), np.prod(b)), 1), 1)
    return ((a, b), terms, getattr(_core, name), backward, lambda t: getattr(t, name))


def softmax(name, shape, axis):
    def backward(dy, x, y):
        return (getattr(_core, f"{name}_backward")(dy, y, axis),)

    forward = partial(getattr(_core, name), axis=axis)
    return ((shape,), shape[axis], forward, backward, lambda t: partial(getattr(t, name), dim=axis))


BROADCASTS = {
    "equal": ((3, 4), (3, 4)),
    "scalar": ((5, 3), ()),
    "left_row": ((7,), (4, 3, 7)),
    "channel": ((2, 5, 4, 3), (5, 1, 1)),
    "outer": ((6, 1), (1, 9)),
    "both_ways": ((2, 1, 4, 1, 3), (1, 5, 4, 2, 1)),
    "eight_axes": ((2, 1, 2, 1, 3, 1, 2, 2), (1, 3, 1, 2, 1, 2, 1, 2)),
    "long_rows": ((3, 5000), (5000,)),
    "long_columns": ((3000, 2), (3000, 1)),
    "empty_batch": ((0, 3), (3,)),
}
CASES = {
    "relu": (((5, 7),), 1, _core.relu, drop_last(_core.relu_backward), lambda t: t.relu),
    "leaky_relu": (
        ((5, 7),), 1, lambda x: _core.leaky_relu(x, 0.1),
        lambda dy, x, y: (_core.leaky_relu_backward(dy, x, 0.1),),
        lambda t: lambda x: t.nn.functional.leaky_relu(x, 0.1),
    ),
    "tanh": (((5, 7, 11),), 1, _core.tanh, drop_last(_core.tanh_backward), lambda t: t.tanh),
    "tanh_many": (((9001,),), 1, _core.tanh, drop_last(_core.tanh_backward), lambda t: t.tanh),
    "sigmoid": (
        ((5, 7),), 1, _core.sigmoid, drop_last(_core.sigmoid_backward), lambda t: t.sigmoid
    ),
    **{
        f"{name}_{case}": softmax(name, shape, axis)
        for name in ("softmax", "log_softmax")
        for case, shape, axis in [
            ("rows", (900, 10), 1), ("last", (2, 3, 4, 17), -1), ("wide", (3, 100), 1),
            ("channels", (3, 5, 4, 6), 1), ("first", (7, 100), 0),
            ("long", (2, 5000), -1), ("single", (4, 1), 1),
            ("empty", (0, 4), 1),
        ]
    },
    **{
        f"{name}_{case}": binary(name, *shapes)
        for name in ("add", "mul") for case, shapes in BROADCASTS.items()
    },
    **{
        f"batch_norm_{case}": (
            (shape, (shape[1],), (shape[1],)), np.prod(shape),
            lambda x, w, b: _core.batch_norm(x, None, None, w, b, True, 1e-5)[0],
            batch_norm_backward,
            lambda t: lambda x, w, b: t.nn.functional.batch_norm(x, None, None, w, b, True),
        )
        for case, shape in {
            "features": (6, 5), "wide": (4, 150), "images": (3, 4, 5, 7), "pixels": (9, 3, 1, 1),
            "narrow": (5, 70, 3, 2),
        }.items()
    },
    "batch_norm_eval": (
        ((3, 4, 5, 2), (4,), (4,), (4,)), 30, batch_norm_eval, batch_norm_eval_backward,
        lambda t: lambda x, m, v, w: t.nn.functional.batch_norm(x, m.detach(), (v * v).detach(), w),
    ),
    "flatten": (
        ((3, 4, 5),), 1, lambda x: _core.flatten(x, 1),
        lambda dy, x, y: (_core.reshape(dy, x.shape),), lambda t: lambda x: t.flatten(x, 1),
    ),
    "concat": (
        ((2, 3, 4), (2, 1, 4), (2, 0, 4)), 1, lambda *x: _core.concat(x, -2),
        lambda dy, *_: _core.concat_backward(dy, [3, 1, 0], 1), lambda t: lambda *x: t.cat(x, -2),
    ),
    "pad2d": (
        ((2, 3, 4, 5),), 1, lambda x: _core.pad2d(x, (1, 2, 0, 3), 0.5),
        lambda dy, x, y: (_core.pad2d_backward(dy, (1, 2, 0, 3)),),
        lambda t: lambda x: t.nn.functional.pad(x, (0, 3, 1, 2), value=0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_like_torch(case, dtype, torch):
    shapes, terms, forward, backward, peer = CASES[case]
    inputs = [normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    y = forward(*inputs)
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    leaves = [torch.tensor(x.astype(np.float64), requires_grad=True) for x in inputs]
    expected = peer(torch)(*leaves)
    assert_near(y, expected.detach().numpy(), terms, 4)
    dy = normal(*y.shape, dtype=dtype, seed=9)
    expected.backward(torch.tensor(dy.astype(np.float64)))
    for gradient, leaf in zip(backward(dy, *inputs, y), leaves, strict=False):
        if gradient is not None:
            assert_near(gradient, leaf.grad.numpy(), terms, 16)
    if y.size:  # strided arrays, and those of the wrong byte order
        odd = [np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x for x in inputs]
        np.testing.assert_array_equal(forward(*odd), y)
        with pytest.raises(DTypeError, match="byte order"):
            forward(inputs[0].astype(inputs[0].dtype.newbyteorder()), *inputs[1:])


# Losses -----------------------------------------------------------------------------------------
LOSSES = {
    "plain": ((37, 10), {}),
    "one_row": ((1, 3), {}),
    "one_class": ((4, 1), {}),
    "many_classes": ((5, 1000), {}),
    "weighted": ((20, 5), {"weight": True}),
    "smoothed": ((20, 5), {"label_smoothing": 0.1}),
    "many_classes_smoothed": (
        (5, 70), {"weight": True, "label_smoothing": 0.1, "ignore_index": 3}
    ),
    "soft_many_classes": ((5, 90), {"soft": True, "weight": True, "label_smoothing": 0.1}),
    "all_of_it": ((33, 6), {"weight": True, "label_smoothing": 0.3, "ignore_index": 2}),
    # The last, partial bundle spans two samples, and its ends are as far apart as in a full one.
    "two_samples_in_a_bundle": ((7, 2, 6), {}),
    "images": ((3, 5, 4, 6), {"weight": True, "label_smoothing": 0.2}),
    "soft": ((20, 7), {"soft": True}),
    "soft_weighted_images": (
        (2, 3, 4, 5), {"soft": True, "weight": True, "label_smoothing": 0.1}
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", LOSSES)
def test_cross_entropy_like_torch(case, reduction, dtype, torch):
    shape, options = LOSSES[case]
    options = dict(options)
    x = 3 * normal(*shape, dtype=dtype)
    w = np.abs(normal(shape[1], dtype=dtype, seed=1)) if options.pop("weight", False) else None
    if options.pop("soft", False):
        target = _core.softmax(normal(*shape, dtype=dtype, seed=2), 1)
    else:
        target = np.random.default_rng(3).integers(0, shape[1], (shape[0], *shape[2:]))
    smoothing, ignored = options.pop("label_smoothing", 0.0), options.pop("ignore_index", None)
    loss, grad = _core.cross_entropy(x, target, w, smoothing, ignored, reduction, True)
    leaf = torch.tensor(x.astype(np.float64), requires_grad=True)
    wide = target.astype(np.float64) if target.dtype.kind == "f" else target
    expected = torch.nn.functional.cross_entropy(
        leaf, torch.tensor(wide), None if w is None else torch.tensor(w.astype(np.float64)),
        label_smoothing=smoothing, reduction=reduction,
        ignore_index=-100 if ignored is None else ignored,
    )  # fmt: skip
    expected.sum().backward()
    assert isinstance(loss, np.ndarray if reduction == "none" else float)
    scale = x.size if reduction == "sum" else 1
    got = np.asarray(loss, dtype)
    assert_near(got, expected.detach().numpy(), shape[1], 8 * scale)
    assert_near(grad, leaf.grad.numpy(), shape[1], 1)
    again, none = _core.cross_entropy(x, target, w, smoothing, ignored, reduction, False)
    np.testing.assert_array_equal(again, loss)
    assert none is None


@pytest.mark.parametrize(
    "integer", ["i1", "u1", ">i2", "<u2", "i4", ">u4", "i8", ">i8", "u8", ">u8"]
)
def test_labels_of_any_integer_dtype(integer):
    x, labels = normal(6, 5), np.array([0, 4, 2, 1, 3, 0])
    expected, _ = _core.cross_entropy(x, labels, None, 0.0, None, "mean", False)
    odd = np.repeat(labels.astype(integer), 2)[::2]
    odd.flags.writeable = False
    assert _core.cross_entropy(x, odd, None, 0.0, None, "mean", False)[0] == expected


def test_nothing_to_average_is_zero():
    for x, target, weight, ignored in [
        (normal(0, 3), np.zeros(0, int), None, None),
        (normal(2, 3), np.array([255, 255], np.uint8), None, 255),
        (normal(2, 3), np.array([1, 1]), np.array([1.0, 0.0, 1.0]), None),
        (normal(2, 0), np.array([-1, -1]), None, -1),
        (normal(0, 3), normal(0, 3), None, None),
    ]:
        loss, grad = _core.cross_entropy(x, target, weight, 0.0, ignored, "mean", True)
        assert loss == 0.0
        np.testing.assert_array_equal(grad, np.zeros_like(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits(dtype):
    x = np.array([[1e30, -1e30, 0], [-1e30, -1e30, -1e30], [3e38, -3e38, 0], [0, -INF, 1]], dtype)
    y = _core.softmax(x, 1)
    np.testing.assert_allclose(y.sum(1), 1, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y[0], [1, 0, 0])
    assert not np.isnan(_core.log_softmax(x, 1)).any()
    assert _core.log_softmax(x, 1)[3, 1] == -INF
    loss, grad = _core.cross_entropy(x, np.array([0, 1, 0, 2]), None, 0.0, None, "none", True)
    assert np.isfinite(loss).all()
    assert np.isfinite(grad).all()
    np.testing.assert_allclose(_core.softmax(x.T.copy(), 0), y.T, rtol=4 * np.finfo(dtype).eps)
    for bad in (NAN, INF):
        x[1, 2] = bad
        for function in (_core.softmax, _core.log_softmax):
            row_is_nan = np.isnan(function(x, 1)).all(1)
            np.testing.assert_array_equal(row_is_nan, [False, True, False, False])
    loss, _ = _core.cross_entropy(x, np.array([0, 1, 0, 2]), None, 0.0, None, "none", False)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False, False])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 15, 9001])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction, size, dtype):
    a, b = normal(size, dtype=dtype), normal(size, dtype=dtype, seed=1)
    loss, grad = _core.mse_loss(a, b, reduction, True)
    d = a.astype(np.float64) - b
    factor = 1 / max(size, 1) if reduction == "mean" else 1
    expected = d * d if reduction == "none" else np.sum(d * d) * factor
    # The sum is exact in double but for rounding; each difference is rounded in `dtype`.
    np.testing.assert_allclose(loss, expected, rtol=8 * np.finfo(dtype).eps, atol=1e-300)
    assert_near(grad, 2 * d * factor, 1, np.abs(d).max(initial=0))


# exp, tanh and sigmoid to the last bits ---------------------------------------------------------
ULP_PROGRAM = """
import numpy as np
from pynn import _core

def ulps(got, exact, flush=False):
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        assert np.array_equal(np.isnan(got), np.isnan(rounded))
        finite = np.isfinite(rounded)
        assert np.array_equal(got[~finite], rounded[~finite], equal_nan=True)
        error = np.abs(got.astype(np.longdouble) - exact) / np.spacing(np.abs(rounded)).astype(np.longdouble)
    # Where softmax and sigmoid would be denormal they are 0.
    flushed = (got == 0) & (np.abs(exact) < np.finfo(got.dtype).tiny) if flush else False
    return error[finite & ~np.asarray(flushed)].max()

rng = np.random.default_rng(0)
for dtype, small in ((np.float32, -100), (np.float64, -740)):
    tiny = np.finfo(dtype).tiny
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, tiny, -tiny, 88.7, -87.4, -103.9, -104.5, 709.7, -745.1]
    x = np.concatenate([rng.uniform(-30, 30, 200_000), rng.uniform(-1, 1, 200_000), rng.uniform(small, -small, 100_000),
                        np.exp(rng.uniform(small, 3, 100_000)) * rng.choice([-1, 1], 100_000), edges]).astype(dtype)
    wide = x.astype(np.longdouble)
    e = np.exp(-np.abs(wide))
    assert ulps(_core.tanh(x), np.tanh(wide)) <= 4, dtype
    assert ulps(_core.sigmoid(x), np.where(wide < 0, e, 1) / (1 + e), flush=True) <= 4, dtype
    assert np.signbit(_core.tanh(dtype([-0.0])))[0]
    # exp shows itself in log_softmax's gradient: dx = dy - exp(y) * sum(dy), here -exp(y).
    y = np.stack([x[~np.isnan(x)], x[~np.isnan(x)]], 1)
    dy = np.tile(dtype([1, 0]), (len(y), 1))
    with np.errstate(all="ignore"):
        assert ulps(-_core.log_softmax_backward(dy, y, 1)[:, 1], np.exp(y[:, 1].astype(np.longdouble))) <= 4, dtype
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", _core.config()["available_isas"])
def test_accuracy_on_each_instruction_set(isa):
    result = run(ULP_PROGRAM, PYNN_ISA=isa)
    assert result == isa


def run(program, **environment):
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# Random numbers ---------------------------------------------------------------------------------
def philox(key, counter):
    """Philox4x32-10 of one counter, step by step."""
    k0, k1, (c0, c1, c2, c3) = key % 2**32, key >> 32, counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def test_philox_known_answers():
    """kat_vectors of Random123; the core's last counter word is an index // 4: small here."""
    vast = 2**32 - 1
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for key, counter, words in [
        (0, (0, 0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, (vast,) * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]:
        assert " ".join(f"{word:08x}" for word in philox(key, counter)) == words
        expected = [word for quad in range(3) for word in philox(key, (*counter[:3], quad))]
        np.testing.assert_array_equal(_core.philox(key, *counter[:3], 11), expected[:11])
    np.testing.assert_array_equal(_core.philox(7, -1, 2**32, 5, 4), philox(7, (vast, 0, 5, 0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 300), (5,), (4, 1), (0, 3), (2, 0)])
def test_dropout_follows_the_words(shape, dtype):
    x, p = normal(*shape, dtype=dtype), 0.3
    y = _core.dropout(x, p, 11, 2**32 + 5, 3, 2**32 - 1)
    size = int(np.prod(shape[1:]))
    for n in range(shape[0]):
        words = _core.philox(11, 5, 3, n - 1 if n else 2**32 - 1, size).reshape(shape[1:])
        expected = np.where(words < int(p * 2**32), 0, x[n] * dtype(1 / (1 - p)))
        np.testing.assert_array_equal(y[n], expected)
    np.testing.assert_array_equal(_core.dropout(x, 0.0, 1, 2, 3, 4), x)
    np.testing.assert_array_equal(_core.dropout(np.full_like(x, NAN), 1.0, 1, 2, 3, 4), 0 * x)
    # A batch is its samples: splitting it changes nothing.
    if shape[0] > 1:
        rest = _core.dropout(x[1:], p, 11, 5, 3, 0)
        np.testing.assert_array_equal(rest, y[1:])


@pytest.mark.parametrize(
    ("shape", "p", "block"),
    [((2, 3, 8, 9), 0.2, 3), ((1, 1, 4, 4), 0.5, 9), ((3, 2, 5, 5), 0.1, 1), ((1, 1, 3, 3), 1, 3)],
)
def test_drop_block2d_follows_the_words(shape, p, block):
    x, (n, c, h, w) = normal(*shape), shape
    y = _core.drop_block2d(x, p, block, 5, 1, 2, 7)
    side = min(block, h, w)
    gamma = min(p / side**2 * (h * w) / ((h - side + 1) * (w - side + 1)), 1.0)
    for sample in range(n):
        words = _core.philox(5, 1, 2, 7 + sample, c * h * w).reshape(c, h, w)
        mask = np.ones((c, h, w))
        for plane, row, column in np.argwhere(words < np.uint64(gamma * 2**32)):
            if row <= h - side and column <= w - side:
                mask[plane, row : row + side, column : column + side] = 0
        scale = mask.size / mask.sum() if mask.any() else 0.0
        np.testing.assert_array_equal(y[sample], x[sample] * mask * scale)


# Optimisers -------------------------------------------------------------------------------------
OPTIMISERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6}),
    "rmsprop": ("RMSprop", {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop_momentum": ("RMSprop", {"lr": 0.01, "momentum": 0.9, "alpha": 0.9}),
}


def updater(kind, size, dtype, options):
    """Function of (p, g, step) that applies one update, with its own state."""
    first, second = np.zeros(size, dtype), np.zeros(size, dtype)
    lr, decay = options["lr"], options.get("weight_decay", 0.0)
    momentum = options.get("momentum", 0.0)
    velocity = first if momentum else None
    if kind == "SGD":
        nesterov = options.get("nesterov", False)
        return lambda p, g, step: _core.sgd_update(
            p, g, velocity, lr, momentum, nesterov, False, decay
        )
    eps = options.get("eps", 1e-8)
    if kind == "RMSprop":
        alpha = options.get("alpha", 0.99)
        return lambda p, g, step: _core.rmsprop_update(
            p, g, second, velocity, lr, alpha, eps, momentum, decay
        )
    betas = options.get("betas", (0.9, 0.999))
    return lambda p, g, step: _core.adam_update(
        p, g, first, second, step, lr, *betas, eps, decay, kind == "AdamW"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_ten_updates_like_torch(name, dtype, torch):
    kind, options = OPTIMISERS[name]
    p = normal(37, dtype=dtype)
    leaf = torch.tensor(p.astype(np.float64), requires_grad=True)
    peer = getattr(torch.optim, kind)([leaf], **options)
    update = updater(kind, p.size, dtype, options)
    for step in range(1, 11):
        g = normal(37, dtype=dtype, seed=step)
        leaf.grad = torch.tensor(g.astype(np.float64))
        peer.step()
        update(p, g, step)
    assert_near(p, leaf.detach().numpy(), 10, 1)


def test_averaged_momentum():
    p, v = normal(5), normal(5, seed=1)
    g, before, old = normal(5, seed=2), p.copy(), v.copy()
    _core.sgd_update(p, g, v, 0.1, 0.9, True, True, 0.5)
    step = (1 - 0.9) * (g + 0.5 * before)
    assert_near(v, 0.9 * old + step)
    assert_near(p, before - 0.1 * (step + 0.9 * v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_of_squares(dtype):
    for size in (0, 3, 100, 12345):
        g = normal(size, dtype=dtype)
        assert _core.sum_of_squares(g) == pytest.approx(
            np.sum(g.astype(np.float64) ** 2), rel=1e-14
        )


# Threads ----------------------------------------------------------------------------------------
def big_results():
    dtype = np.float32
    x, dy = normal(600, 1000, dtype=dtype), normal(600, 1000, dtype=dtype, seed=1)
    images, d_images = x.reshape(6, 100, 25, 40), dy.reshape(6, 100, 25, 40)
    labels = np.arange(600) % 1000
    row = x[0].copy()
    yield _core.tanh(x)
    yield _core.softmax(x, 1)
    yield _core.softmax(images, 1)
    yield _core.log_softmax_backward(dy, _core.log_softmax(x, 0), 0)
    yield from map(np.asarray, _core.cross_entropy(x, labels, None, 0.1, None, "mean", True))
    yield from map(np.asarray, _core.mse_loss(x, dy, "mean", True))
    yield _core.dropout(x, 0.5, 1, 2, 3, 4)
    yield _core.drop_block2d(images, 0.1, 3, 1, 2, 3, 4)
    statistics = _core.batch_norm(images, None, None, None, None, True, 1e-5)
    yield from statistics
    yield from _core.batch_norm_backward(d_images, images, *statistics[1:], None, True, 1e-5)
    yield _core.add(x, row)
    yield from _core.add_backward(dy, x.shape, row.shape)
    yield from _core.mul_backward(d_images, images, images[0, :, :1, :1].copy())
    yield _core.concat([x, dy], 1)
    yield _core.pad2d(images, 1, 0.0)
    p, m, v = x.ravel().copy(), np.zeros(x.size, dtype), np.zeros(x.size, dtype)
    _core.adam_update(p, dy.ravel(), m, v, 1, 0.1, 0.9, 0.999, 1e-8, 0.1, True)
    yield p
    yield np.asarray(_core.sum_of_squares(p))


def test_same_bits_on_any_number_of_threads():
    before = _core.get_num_threads()
    try:
        _core.set_num_threads(1)
        expected = list(big_results())
        for threads in (2, 3, 5, 8):
            _core.set_num_threads(threads)
            for i, (got, alone) in enumerate(zip(big_results(), expected, strict=True)):
                assert got.tobytes() == alone.tobytes(), (threads, i)
    finally:
        _core.set_num_threads(before)


# Shape rules and refusals -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (lambda: _core.softmax_shape((2, 3), -1), (2, 3)),
        (lambda: _core.drop_block2d_shape((1, 2, 3, 4), 0.5, 2), (1, 2, 3, 4)),
        (lambda: _core.batch_norm_shape((2, 3), None, None, (3,), None, True), (2, 3)),
        (lambda: _core.broadcast_shape((4, 1, 3), (5, 1)), (4, 5, 3)),
        (lambda: _core.flatten_shape((2, 3, 4, 5), 2), (2, 3, 20)),
        (lambda: _core.flatten_shape((0, 3, 4), 1), (0, 12)),
        (lambda: _core.reshape_shape((2, 12), (2, 3, -1)), (2, 3, 4)),
        (lambda: _core.reshape_shape((2, 12), (-1, 3, 4)), (2, 3, 4)),
        (lambda: _core.reshape_shape((0, 12), (0, -1, 4)), (0, 3, 4)),
        (lambda: _core.concat_shape([(2, 3), (4, 3)], 0), (6, 3)),
        (lambda: _core.pad2d_shape((1, 2, 3, 4), np.int64(2)), (1, 2, 7, 8)),
        (lambda: _core.pad2d_shape((1, 2, 3, 4), (1, 0)), (1, 2, 5, 4)),
        (lambda: _core.pad2d_shape((1, 2, 3, 4), "valid"), (1, 2, 3, 4)),
    ],
)
def test_shape_rules(got, expected):
    assert got() == expected


def cross_entropy(x, target, weight=None, smoothing=0.0, *, ignored=None, reduction="mean"):
    return _core.cross_entropy(x, target, weight, smoothing, ignored, reduction, True)


def labels(*values, dtype=np.int64):
    return np.array(values, dtype)


X23, ONES3, F32 = normal(2, 3), np.ones(3), np.ones(3, np.float32)
REFUSALS = {
    "axis": (lambda: _core.softmax(X23, 2), ShapeError, r"axis 2 .* shape \(2, 3\)"),
    "dy": (lambda: _core.tanh_backward(ONES3, X23), ShapeError, r"dy must have shape \(2, 3\)"),
    "ints": (lambda: _core.tanh(labels(1)), DTypeError, "x must be .* got dtype int64"),
    "mixed": (lambda: _core.add(ONES3, F32), DTypeError, "b is float32"),
    "broadcast": (
        lambda: _core.mul(X23, np.ones(4)), ShapeError, r"\(2, 3\) and \(4,\) do not broadcast"
    ),
    "nine_axes": (lambda: _core.add(np.ones((1,) * 9), ONES3), ShapeError, "more than 8"),
    "label": (
        lambda: cross_entropy(X23, labels(0, 3)), LabelError, r"label 3 at row 1 is outside 0\.\.2"
    ),
    "negative_label": (
        lambda: cross_entropy(X23, labels(0, -1, dtype=np.int8)), LabelError, "label -1 at row 1"
    ),
    "huge_label": (
        lambda: cross_entropy(X23, labels(2**64 - 1, 0, dtype=np.uint64), ignored=-1),
        LabelError, "label 18446744073709551615 at row 0",
    ),
    "label_place": (
        lambda: cross_entropy(normal(2, 3, 4, 5), np.full((2, 4, 5), 7)),
        LabelError, r"label 7 at index \(0, 0, 0\)",
    ),
    "bool_target": (lambda: cross_entropy(X23, labels(0, 1, dtype=bool)), DTypeError, "dtype bool"),
    "list_target": (lambda: cross_entropy(X23, [0, 1]), DTypeError, "got list"),
    "masked_target": (
        lambda: cross_entropy(X23, np.ma.masked_array([0, 1])), DTypeError, "masked"
    ),
    "target_shape": (
        lambda: cross_entropy(X23, labels(0, 1)[:, None]), ShapeError,
        r"target must have shape \(2,\) for logits of shape \(2, 3\), got \(2, 1\)",
    ),
    "logits": (lambda: cross_entropy(ONES3, labels(0)), ShapeError, "logits must have shape"),
    "weight": (lambda: cross_entropy(X23, labels(0, 1), np.ones(2)), ShapeError, "weight must"),
    "smoothing": (lambda: cross_entropy(X23, labels(0, 1), None, 2), ValueError, "got 2"),
    "soft_ignored": (lambda: cross_entropy(X23, X23, ignored=1), ValueError, "ignore_index"),
    "soft_dtype": (lambda: cross_entropy(X23, X23.astype("f4")), DTypeError, "target is float32"),
    "reduction": (
        lambda: cross_entropy(X23, labels(0, 1), reduction="avg"), ValueError,
        "reduction must be 'mean', 'sum' or 'none', got 'avg'",
    ),
    "mse": (
        lambda: _core.mse_loss(X23, X23[:, :1], "mean", False), ShapeError,
        r"\(2, 3\), got \(2, 1\)",
    ),
    "p": (lambda: _core.dropout(X23, 1.5, 0, 0, 0, 0), ValueError, "got 1.5"),
    "p_nan": (lambda: _core.dropout(X23, NAN, 0, 0, 0, 0), ValueError, "got nan"),
    "block": (
        lambda: _core.drop_block2d(normal(1, 1, 2, 2), 0.5, 0, 0, 0, 0, 0), ValueError, "block_size"
    ),
    "planes": (
        lambda: _core.drop_block2d(X23, 0.5, 1, 0, 0, 0, 0), ShapeError, r"\(N, C, H, W\), got"
    ),
    "one_value": (
        lambda: _core.batch_norm(normal(1, 3), None, None, None, None, True, 1e-5), ShapeError,
        r"more than one value per channel in training, got input shape \(1, 3\)",
    ),
    "running": (
        lambda: _core.batch_norm(X23, None, None, None, None, False, 1e-5), ValueError,
        "running_mean",
    ),
    "bn_weight": (
        lambda: _core.batch_norm(X23, None, None, np.ones(2), None, True, 1e-5), ShapeError,
        r"an input of 2 channels, as weight has them, got shape \(2, 3\)",
    ),
    "bn_axes": (
        lambda: _core.batch_norm(ONES3, None, None, None, None, True, 1e-5), ShapeError, r"\(3,\)"
    ),
    "flatten": (lambda: _core.flatten(X23, 0), ShapeError, "keeps the batch axis"),
    "reshape": (lambda: _core.reshape(X23, (3, 2)), ShapeError, "may not touch the batch axis"),
    "reshape_rest": (lambda: _core.reshape(X23, (-1, 6)), ShapeError, "batch axis"),
    "reshape_twice": (lambda: _core.reshape(X23, (2, -1, -1)), ShapeError, "infer one"),
    "reshape_zero": (lambda: _core.reshape(X23, (2, 0, -1)), ShapeError, "do not fit"),
    "reshape_vast": (lambda: _core.reshape(X23, (2, 2**40, 2**40)), ShapeError, "memory"),
    "concat": (
        lambda: _core.concat([X23, normal(3, 3)], 1), ShapeError,
        r"array 1 of shape \(3, 3\) does not fit array 0 of shape \(2, 3\)",
    ),
    "concat_nothing": (lambda: _core.concat([], 0), ShapeError, "at least one"),
    "concat_mixed": (lambda: _core.concat([ONES3, F32], 0), DTypeError, r"arrays\[1\]"),
    "split": (lambda: _core.concat_backward(X23, [1, 1], 1), ShapeError, "sizes"),
    "pad_word": (lambda: _core.pad2d_shape((1, 1, 2, 2), "same"), ShapeError, "'valid'.*'same'"),
    "pad_negative": (lambda: _core.pad2d_shape((1, 1, 2, 2), -1), ShapeError, "got -1"),
    "pad_three": (lambda: _core.pad2d_shape((1, 1, 2, 2), (1, 2, 3)), ShapeError, "padding must"),
    "pad_float": (lambda: _core.pad2d_shape((1, 1, 2, 2), 1.5), ShapeError, "padding must"),
    "crop": (lambda: _core.pad2d_backward(normal(1, 1, 2, 2), 2), ShapeError, "smaller than"),
    "state": (
        lambda: _core.sgd_update(F32, ONES3, None, 0.1, 0, False, False, 0), DTypeError, "p must be"
    ),
    "state_shape": (
        lambda: _core.sgd_update(np.ones(4), ONES3, None, 0.1, 0, False, False, 0), ShapeError,
        "p must",
    ),
    "state_strides": (
        lambda: _core.sgd_update(np.ones(6)[::2], ONES3, None, 0.1, 0, False, False, 0),
        DTypeError, "in place",
    ),
    "flat": (lambda: _core.sum_of_squares(X23), ShapeError, "one dimension"),
    "step": (
        lambda: _core.adam_update(ONES3, ONES3, ONES3, ONES3, 0, 1, 0.9, 0.9, 1, 0, False),
        ValueError, "step",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    call, error, text = REFUSALS[case]
    with pytest.raises(error, match=text):
        call()


def test_needs():
    assert _core.add_backward(X23, (2, 3), (3,), (False, True))[0] is None
    assert _core.mul_backward(X23, X23, ONES3, (True, False))[1] is None
    _, mean, var = _core.batch_norm(X23, None, None, None, None, True, 1e-5)
    gradients = _core.batch_norm_backward(
        X23, X23, mean, var, None, True, 1e-5, (False, True, False)
    )
    assert [g is None for g in gradients] == [True, False, True]


def test_batch_norm_of_an_empty_batch():
    x = np.ones((0, 3, 2, 2))
    y, mean, var = _core.batch_norm(x, None, None, None, None, True, 1e-5)
    assert y.shape == x.shape
    np.testing.assert_array_equal([mean, var], np.zeros((2, 3)))
    dx, dw, db = _core.batch_norm_backward(x, x, mean, var, None, True, 1e-5)
    assert dx.shape == x.shape
    np.testing.assert_array_equal([dw, db], np.zeros((2, 3)))
