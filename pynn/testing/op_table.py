"""The op table: the samples of every operator. An operator without an entry here fails a test."""

from __future__ import annotations

from typing import Any

import numpy as np

from pynn.errors import DTypeError, LabelError, ShapeError
from pynn.graph import Shape
from pynn.testing.samples import TABLE, Case, Entry, Refusal, Shapes, distinct, samples


def _size(shape: Shape | None) -> int:
    return int(np.prod(shape)) if shape is not None else 0


def _pointwise(*shapes: Shape) -> dict[str, Any]:
    """Cases that every operator on single arrays has."""
    named: dict[str, Shape] = {
        "one_value": (1, 1),
        "odd_sizes": (3, 5, 7, 3),
        "batch_1": (1, 13),
        "batch_37": (37, 11),
        "over_a_block": (5, 1000),
        "empty_batch": (0, 4),
    }
    return {name: ((shape,), {}) for name, shape in named.items()}


def _integers() -> list[Any]:
    return [np.ones((2, 3), np.int64)]


def _half() -> list[Any]:
    return [np.ones((2, 3), np.float16)]


def _big_endian() -> list[Any]:
    return [np.ones((2, 3), ">f4")]


def _listed() -> list[Any]:
    return [[1.0, 2.0]]


_ARRAY_REFUSALS: dict[str, Any] = {
    "integers": (_integers, {}, DTypeError, "got dtype int64; convert it first"),
    "half_precision": (_half, {}, DTypeError, "got dtype float16"),
    "other_byte_order": (_big_endian, {}, DTypeError, "the other byte order"),
    "a_list": (_listed, {}, DTypeError, "got list"),
}


def _matmul_terms(shapes: Shapes, attributes: Any) -> int:
    (a, b) = shapes[:2]
    assert a is not None
    assert b is not None
    return max(a[-1], a[-2], b[-1], 1)


samples(
    "matmul",
    {
        "one_product": (((1, 1), (1, 1)), {}),
        "odd_sizes": (((7, 5), (5, 3)), {}),
        "long_inner": (((3, 700), (700, 2)), {}),
        "over_a_tile": (((37, 33), (33, 65)), {}),
        "batch_of_matrices": (((4, 3, 5), (4, 5, 2)), {}),
        "broadcast_matrices": (((4, 3, 5), (5, 2)), {}),
        "no_inner": (((3, 0), (0, 2)), {}),
        "empty_batch": (((0, 5), (5, 3)), {}),
    },
    refuses={
        "inner_sizes": (((2, 3), (4, 5)), {}, ShapeError, "3 columns but b has 4 rows"),
        "one_axis": (((3,), (3, 2)), {}, ShapeError, "(3,)"),
        "mixed_dtypes": (
            lambda: [np.ones((2, 3), np.float32), np.ones((3, 2))], {}, DTypeError, "operators never cast",
        ),
    },
    bench={"256": (((256, 256), (256, 256)), {}), "1024": (((1024, 1024), (1024, 1024)), {})},
    terms=_matmul_terms,
    flops=lambda shapes, attributes: 2 * _size(shapes[0]) * (shapes[1] or (0,))[-1],
)  # fmt: skip

samples(
    "linear",
    {
        "one_product": (((1, 1), (1, 1), (1,)), {}),
        "batch_1": (((1, 13), (5, 13), (5,)), {}),
        "batch_37": (((37, 20), (10, 20), (10,)), {}),
        "no_bias": (((4, 6), (3, 6), None), {}),
        "over_a_tile": (((50, 40), (70, 40), (70,)), {}),
        "three_axes": (((2, 3, 5), (4, 5), (4,)), {}),
        "empty_batch": (((0, 5), (3, 5), (3,)), {}),
    },
    refuses={
        "features": (((4, 6), (3, 5), (3,)), {}, ShapeError, "expected 5 input features, got 6"),
        "not_flattened": (
            ((64, 8, 7, 7), (32, 392), None), {}, ShapeError, "is a Flatten missing before it?",
        ),
        "bias": (((4, 5), (3, 5), (5,)), {}, ShapeError, "(5,)"),
    },
    bench={
        "784-512_b100": (((100, 784), (512, 784), (512,)), {}),
        "784-32_b100": (((100, 784), (32, 784), (32,)), {}),
    },
    terms=lambda shapes, attributes: max(*(shapes[1] or (1,)), _size(shapes[0]) // max((shapes[0] or (1,))[-1], 1)),
    flops=lambda shapes, attributes: 2 * _size(shapes[0]) * (shapes[1] or (0,))[0],
)  # fmt: skip


def _conv_terms(shapes: Shapes, attributes: Any) -> int:
    x, w = shapes[0], shapes[1]
    assert x is not None
    assert w is not None
    return max(_size(w[1:]), w[0] * _size(w[2:]), x[0] * x[2] * x[3], 1)


def _conv_flops(shapes: Shapes, attributes: Any) -> int:
    from pynn import _core

    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | attributes
    assert shapes[0] is not None
    assert shapes[1] is not None
    y = _core.conv2d_geometry(shapes[0], shapes[1], None, **options)[0]
    return 2 * _size(y) * _size(shapes[1][1:])


samples(
    "conv2d",
    {
        "one_pixel": (((1, 1, 1, 1), (1, 1, 1, 1), (1,)), {}),
        "odd_sizes": (((3, 3, 7, 5), (5, 3, 3, 2), (5,)), {}),
        "batch_1": (((1, 2, 8, 8), (3, 2, 3, 3), (3,)), {"padding": 1}),
        "batch_37": (((37, 1, 6, 6), (2, 1, 3, 3), (2,)), {"padding": "same"}),
        "no_bias": (((2, 2, 5, 5), (3, 2, 3, 3), None), {}),
        "stride_does_not_tile": (((2, 2, 8, 7), (3, 2, 3, 3), (3,)), {"stride": 2}),
        "stride_rectangular": (((2, 3, 9, 8), (4, 3, 3, 2), (4,)), {"stride": (3, 2), "padding": (1, 0)}),
        "stride_over_kernel": (((1, 2, 9, 9), (2, 2, 2, 2), (2,)), {"stride": 4}),
        "four_sides": (((2, 2, 5, 4), (3, 2, 3, 3), (3,)), {"padding": (2, 0, 1, 3)}),
        "same_even_kernel": (((2, 2, 6, 5), (3, 2, 4, 2), (3,)), {"padding": "same"}),
        "same_with_stride": (((2, 2, 7, 8), (3, 2, 3, 3), (3,)), {"padding": "same", "stride": 2}),
        "full": (((2, 3, 4, 5), (2, 3, 3, 2), (2,)), {"padding": "full"}),
        "full_denoiser": (((2, 4, 8, 8), (1, 4, 5, 5), (1,)), {"padding": "full"}),
        "valid_by_name": (((1, 1, 5, 5), (2, 1, 5, 5), (2,)), {"padding": "valid"}),
        "dilation": (((2, 2, 9, 8), (3, 2, 3, 3), (3,)), {"dilation": 2, "padding": 2}),
        "dilation_stride_rectangular": (
            ((1, 2, 11, 9), (2, 2, 3, 2), (2,)), {"dilation": (2, 3), "stride": (2, 1), "padding": (1, 2)},
        ),
        "groups": (((3, 4, 6, 6), (6, 2, 3, 3), (6,)), {"groups": 2, "padding": 1}),
        "depthwise": (((2, 5, 6, 5), (5, 1, 3, 3), (5,)), {"groups": 5, "padding": "same"}),
        "depthwise_multiplied": (((2, 3, 5, 5), (6, 1, 3, 3), (6,)), {"groups": 3}),
        "one_by_one": (((2, 6, 5, 4), (3, 6, 1, 1), (3,)), {}),
        "over_a_tile": (((17, 8, 14, 14), (20, 8, 3, 3), (20,)), {"padding": "same"}),
        "empty_batch": (((0, 2, 5, 5), (3, 2, 3, 3), (3,)), {}),
    },
    refuses={
        "channels": (
            ((1, 2, 5, 5), (3, 4, 3, 3), None), {}, ShapeError, "expected 4 input channels, got 2",
        ),
        "three_axes": (((2, 5, 5), (3, 2, 3, 3), None), {}, ShapeError, "(N, C, H, W)"),
        "kernel_too_large": (((1, 1, 3, 3), (1, 1, 5, 5), None), {}, ShapeError, "does not fit"),
        "groups": (((1, 4, 5, 5), (3, 2, 3, 3), None), {"groups": 2}, ShapeError, "groups=2 does not divide 3"),
        "padding_word": (((1, 1, 5, 5), (1, 1, 3, 3), None), {"padding": "some"}, ShapeError, "some"),
        "padding_negative": (((1, 1, 5, 5), (1, 1, 3, 3), None), {"padding": -1}, ShapeError, "padding"),
        "stride_zero": (((1, 1, 5, 5), (1, 1, 3, 3), None), {"stride": 0}, ShapeError, "stride"),
        "bias": (((1, 1, 5, 5), (2, 1, 3, 3), (3,)), {}, ShapeError, "(3,)"),
    },
    bench={
        "1-8_3x3_28_b100": (((100, 1, 28, 28), (8, 1, 3, 3), (8,)), {"padding": 1}),
        "20-30_4x4_12_b64": (((64, 20, 12, 12), (30, 20, 4, 4), (30,)), {}),
        "64-192_5x5_27_b4": (((4, 64, 27, 27), (192, 64, 5, 5), (192,)), {"padding": 2}),
    },
    terms=_conv_terms,
    flops=_conv_flops,
)  # fmt: skip

samples(
    "bias",
    {
        "one_value": (((1, 1), (1,)), {}),
        "output_pixels": (((3, 2, 5, 4), (2, 5, 4)), {}),
        "batch_37": (((37, 6), (6,)), {}),
        "empty_batch": (((0, 2, 3), (2, 3)), {}),
    },
    refuses={
        "not_a_sample": (((3, 2, 5), (2,)), {}, ShapeError, "(2, 5)"),
    },
    bench={"1x28x28_b100": (((100, 1, 28, 28), (1, 28, 28)), {})},
    terms=lambda shapes, attributes: max((shapes[0] or (1,))[0], 1),
)

_POOLS: dict[str, Any] = {
    "one_pixel": (((1, 1, 1, 1),), {"kernel_size": 1}),
    "tiles": (((2, 3, 6, 4),), {"kernel_size": 2}),
    "odd_sizes": (((2, 3, 7, 5),), {"kernel_size": 2}),
    "batch_1": (((1, 2, 6, 6),), {"kernel_size": 3, "stride": 2}),
    "batch_37": (((37, 1, 4, 4),), {"kernel_size": 2}),
    "overlapping": (((2, 2, 8, 9),), {"kernel_size": 3, "stride": 1}),
    "rectangular": (((2, 2, 9, 8),), {"kernel_size": (2, 3), "stride": (3, 2)}),
    "padding": (((2, 2, 6, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "padding_same": (((2, 2, 7, 7),), {"kernel_size": 3, "stride": 2, "padding": "same"}),
    "padding_full": (((1, 2, 4, 4),), {"kernel_size": 2, "stride": 1, "padding": "full"}),
    "ceil_mode": (((2, 2, 7, 8),), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil_mode_padding": (
        ((1, 2, 5, 6),),
        {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil_mode_window_outside": (
        ((1, 1, 4, 4),),
        {"kernel_size": 1, "stride": 4, "ceil_mode": True},
    ),
    "empty_batch": (((0, 2, 4, 4),), {"kernel_size": 2}),
}
_POOL_REFUSALS: dict[str, Any] = {
    "window_too_large": (((1, 1, 3, 3),), {"kernel_size": 5}, ShapeError, "does not fit"),
    "padding_over_window": (
        ((1, 1, 5, 5),), {"kernel_size": 2, "padding": 2}, ShapeError, "must be smaller than the kernel",
    ),
    "three_axes": (((1, 5, 5),), {"kernel_size": 2}, ShapeError, "(N, C, H, W)"),
    "stride_zero": (((1, 1, 5, 5),), {"kernel_size": 2, "stride": 0}, ShapeError, "stride"),
}  # fmt: skip
_POOL_BENCH: dict[str, Any] = {"8x28x28_b100": (((100, 8, 28, 28),), {"kernel_size": 2})}


def _window(shapes: Shapes, attributes: Any) -> int:
    size = attributes["kernel_size"]
    return _size((size, size) if isinstance(size, int) else size)


samples(
    "max_pool2d", _POOLS, refuses=_POOL_REFUSALS, bench=_POOL_BENCH, make=distinct, terms=_window
)
samples(
    "avg_pool2d",
    _POOLS
    | {
        "padding_not_counted": (
            ((2, 2, 6, 7),), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        ),
        "ceil_mode_not_counted": (
            ((1, 2, 5, 6),),
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        ),
    },
    refuses=_POOL_REFUSALS,
    bench=_POOL_BENCH,
    terms=_window,
)  # fmt: skip
samples(
    "global_avg_pool2d",
    {
        "one_pixel": (((1, 1, 1, 1),), {}),
        "odd_sizes": (((3, 5, 7, 3),), {}),
        "batch_37": (((37, 2, 3, 3),), {}),
        "empty_batch": (((0, 2, 3, 3),), {}),
    },
    refuses={"three_axes": (((2, 3, 3),), {}, ShapeError, "(N, C, H, W)")},
    bench={"256x13x13_b16": (((16, 256, 13, 13),), {})},
    terms=lambda shapes, attributes: max(_size((shapes[0] or ())[2:]), 1),
)

_ACTIVATION_BENCH: dict[str, Any] = {"1e6": (((1000, 1000),), {})}
for _name in ("relu", "leaky_relu"):
    samples(_name, _pointwise(), refuses=_ARRAY_REFUSALS, bench=_ACTIVATION_BENCH, make=distinct)
samples(
    "tanh", _pointwise(), refuses=_ARRAY_REFUSALS, bench=_ACTIVATION_BENCH,
    flops=lambda shapes, attributes: 20 * _size(shapes[0]),
)  # fmt: skip
samples(
    "sigmoid", _pointwise(), refuses=_ARRAY_REFUSALS, bench=_ACTIVATION_BENCH,
    flops=lambda shapes, attributes: 20 * _size(shapes[0]),
)  # fmt: skip
for _name in ("softmax", "log_softmax"):
    samples(
        _name,
        _pointwise()
        | {
            "axis_0": (((5, 3),), {"axis": 0}),
            "last_axis": (((2, 3, 4),), {"axis": -1}),
            "channels": (((2, 7, 3, 4),), {"axis": 1}),
            "one_class": (((4, 1),), {}),
        },
        refuses={"no_such_axis": (((2, 3),), {"axis": 2}, ShapeError, "axis"), **_ARRAY_REFUSALS},
        bench={"10_b100": (((100, 10),), {}), "1000_b100": (((100, 1000),), {})},
        terms=lambda shapes, attributes: max((shapes[0] or (1,))[attributes.get("axis", 1)], 1),
        flops=lambda shapes, attributes: 20 * _size(shapes[0]),
    )


def _labelled(rng: np.random.Generator, shapes: Shapes) -> list[Any]:
    """Logits, and labels in int64: the shape of the logits without axis 1."""
    logits = shapes[0]
    assert logits is not None
    labels = rng.integers(0, max(logits[1], 1), logits[:1] + logits[2:])
    return [rng.standard_normal(logits) * 3, labels]


samples(
    "cross_entropy",
    {
        "one_value": (((1, 1), None), {}),
        "batch_1": (((1, 10), None), {}),
        "batch_37": (((37, 10), None), {}),
        "many_classes": (((3, 1000), None), {}),
        "positions": (((2, 5, 3, 4), None), {}),
        "label_smoothing": (((6, 5), None), {"label_smoothing": 0.1}),
        "ignore_index": (((9, 3), None), {"ignore_index": 1}),
        "ignore_and_smooth": (((9, 3), None), {"ignore_index": 1, "label_smoothing": 0.2}),
        "sum": (((6, 5), None), {"reduction": "sum"}),
        "none": (((6, 5), None), {"reduction": "none"}),
        "none_positions": (((2, 5, 3), None), {"reduction": "none", "label_smoothing": 0.1}),
        "empty_batch": (((0, 5), None), {}),
    },
    refuses={
        "label": (
            lambda: [np.zeros((2, 3)), np.array([0, 3])], {}, LabelError, "label 3 at row 1 is outside 0..2",
        ),
        "negative_label": (
            lambda: [np.zeros((2, 3)), np.array([-1, 0])], {}, LabelError, "label -1 at row 0 is outside 0..2",
        ),
        "column_of_labels": (
            lambda: [np.zeros((2, 3)), np.array([[0], [1]])], {}, ShapeError, "(2, 1)",
        ),
        "labels_as_floats": (
            lambda: [np.zeros((2, 3)), np.array([0.0, 1.0])], {}, ShapeError, "class labels must be integers",
        ),
        "boolean_labels": (lambda: [np.zeros((2, 2)), np.array([True, False])], {}, DTypeError, "bool"),
        "reduction": (
            lambda: [np.zeros((1, 2)), np.array([0])], {"reduction": "avg"}, ValueError,
            "reduction must be 'mean', 'sum' or 'none', got 'avg'",
        ),
        "one_axis": (lambda: [np.zeros(3), np.array([0])], {}, ShapeError, "(3,)"),
    },
    bench={"10_b100": (((100, 10), None), {}), "1000_b100": (((100, 1000), None), {})},
    make=_labelled,
    differentiable=[0],
    terms=lambda shapes, attributes: max(_size(shapes[0]), 1),
    flops=lambda shapes, attributes: 20 * _size(shapes[0]),
    loss=True,
)  # fmt: skip
samples(
    "mse_loss",
    {
        "one_value": (((1, 1), (1, 1)), {}),
        "images": (((3, 1, 7, 5), (3, 1, 7, 5)), {}),
        "batch_37": (((37, 3), (37, 3)), {}),
        "sum": (((4, 3), (4, 3)), {"reduction": "sum"}),
        "none": (((4, 3), (4, 3)), {"reduction": "none"}),
        "empty_batch": (((0, 3), (0, 3)), {}),
    },
    refuses={
        "would_broadcast": (((4, 1), (4,)), {}, ShapeError, "(4,)"),
        "mixed_dtypes": (
            lambda: [np.ones((2, 3), np.float32), np.ones((2, 3))], {}, DTypeError, "operators never cast",
        ),
    },
    bench={"1x28x28_b100": (((100, 1, 28, 28), (100, 1, 28, 28)), {})},
    differentiable=[0],
    terms=lambda shapes, attributes: max(_size(shapes[0]), 1),
    flops=lambda shapes, attributes: 3 * _size(shapes[0]),
    loss=True,
)  # fmt: skip

samples(
    "dropout",
    {name: (shapes, {"p": 0.4}) for name, (shapes, _) in _pointwise().items()}
    | {"nothing": (((3, 4),), {"p": 0.0}), "everything": (((3, 4),), {"p": 1.0})},
    refuses={"probability": (((2, 3),), {"p": 1.5}, ValueError, "1.5"), **_ARRAY_REFUSALS},
    bench={"1e6": (((1000, 1000),), {})},
    flops=lambda shapes, attributes: 10 * _size(shapes[0]),
)
samples(
    "drop_block2d",
    {
        "one_pixel": (((1, 1, 1, 1),), {"p": 0.5, "block_size": 1}),
        "blocks": (((3, 2, 9, 7),), {"p": 0.3, "block_size": 3}),
        "batch_37": (((37, 1, 5, 5),), {"p": 0.2, "block_size": 2}),
        "block_over_image": (((4, 2, 3, 5),), {"p": 0.3, "block_size": 7}),
        "everything": (((2, 1, 4, 4),), {"p": 1.0, "block_size": 2}),
        "empty_batch": (((0, 2, 5, 5),), {"p": 0.3, "block_size": 3}),
    },
    refuses={
        "three_axes": (((2, 5, 5),), {}, ShapeError, "(N, C, H, W)"),
        "probability": (((2, 1, 5, 5),), {"p": -0.1}, ValueError, "-0.1"),
        "block_size": (((2, 1, 5, 5),), {"block_size": 0}, ValueError, "0"),
    },
    bench={"20x12x12_b64": (((64, 20, 12, 12),), {"p": 0.25, "block_size": 3})},
    flops=lambda shapes, attributes: 10 * _size(shapes[0]),
)


def _statistics(rng: np.random.Generator, shapes: Shapes) -> list[Any]:
    """x, running mean, running variance (positive), weight, bias."""
    arrays = [None if shape is None else rng.standard_normal(shape) for shape in shapes]
    if arrays[2] is not None:
        arrays[2] = np.abs(arrays[2]) + 0.5
    return arrays


def _channels(x: Shape, *, running: bool = False, affine: bool = True) -> tuple[Shape | None, ...]:
    """Shapes of x, running mean and variance, weight and bias."""
    c = (x[1],)
    return (x, *((c if running else None,) * 2), *((c if affine else None,) * 2))


samples(
    "batch_norm",
    {
        "batch_3": (_channels((3, 3)), {"training": True}),
        "features": (_channels((37, 5)), {"training": True}),
        "images": (_channels((3, 4, 5, 7)), {"training": True}),
        "one_image": (_channels((1, 2, 3, 3)), {"training": True}),
        "not_affine": (_channels((4, 3, 2, 2), affine=False), {"training": True}),
        "running": (_channels((3, 4, 5, 7), running=True), {}),
        "running_one_value": (_channels((1, 3), running=True), {}),
        "running_not_affine": (_channels((5, 3), running=True, affine=False), {}),
        "large_eps": (_channels((6, 2)), {"training": True, "eps": 0.1}),
        "empty_batch": (_channels((0, 3), running=True), {}),
        "empty_batch_training": (_channels((0, 3)), {"training": True}),
    },
    refuses={
        "one_value": (_channels((1, 3)), {"training": True}, ShapeError, "more than one value per channel"),
        "three_axes": (_channels((2, 3, 4), running=True), {}, ShapeError, "(2, 3, 4)"),
        "weight": (((2, 3), (3,), (3,), (4,), (3,)), {}, ShapeError, "expects an input of 4 channels, as weight has them"),
    },
    bench={"20x12x12_b64": (_channels((64, 20, 12, 12)), {"training": True})},
    make=_statistics,
    differentiable=[0, 3, 4],
    terms=lambda shapes, attributes: max(_size(shapes[0]) // (shapes[0] or (1, 1))[1], 1),
    flops=lambda shapes, attributes: 8 * _size(shapes[0]),
)  # fmt: skip

for _name in ("add", "mul"):
    samples(
        _name,
        {
            "one_value": (((1,), (1,)), {}),
            "equal_shapes": (((3, 5, 7), (3, 5, 7)), {}),
            "number": (((4, 5), ()), {}),
            "last_axis": (((4, 5), (5,)), {}),
            "channels": (((3, 4, 5, 2), (4, 1, 1)), {}),
            "both_ways": (((3, 1, 5), (4, 1)), {}),
            "over_a_block": (((5, 1000), (5, 1000)), {}),
            "empty_batch": (((0, 4), (4,)), {}),
        },
        refuses={
            "shapes": (((2, 3), (4,)), {}, ShapeError, "(2, 3) and (4,) do not broadcast"),
            "mixed_dtypes": (
                lambda: [np.ones((2, 3), np.float32), np.ones((2, 3))], {}, DTypeError, "operators never cast",
            ),
        },
        bench={"1e6": (((1000, 1000), (1000, 1000)), {})},
        terms=lambda shapes, attributes: max(_size(shapes[0]), _size(shapes[1]), 1),
    )  # fmt: skip

samples(
    "flatten",
    {
        "one_value": (((1, 1),), {}),
        "images": (((3, 2, 5, 4),), {}),
        "already_flat": (((3, 7),), {}),
        "from_axis_2": (((3, 2, 5, 4),), {"start_axis": 2}),
        "empty_batch": (((0, 2, 3),), {}),
    },
    refuses={"batch_axis": (((3, 4),), {"start_axis": 0}, ShapeError, "start_axis")},
)
samples(
    "reshape",
    {
        "images": (((3, 20),), {"shape": (3, 5, 2, 2)}),
        "inferred": (((3, 4, 5),), {"shape": (3, -1)}),
        "inferred_batch": (((3, 4, 5),), {"shape": (-1, 2, 10)}),
        "empty_batch": (((0, 4, 5),), {"shape": (0, 20)}),
        "empty_batch_inferred": (((0, 4, 5),), {"shape": (0, -1)}),
    },
    refuses={
        "batch_axis": (((3, 4),), {"shape": (6, 2)}, ShapeError, "batch axis"),
        "size": (((3, 4),), {"shape": (3, 5)}, ShapeError, "(3, 5)"),
    },
)
samples(
    "concat",
    {
        "one_array": (((2, 3),), {}),
        "channels": (((2, 3, 4, 5), (2, 1, 4, 5)), {}),
        "three": (((3, 2), (3, 5), (3, 1)), {}),
        "last_axis": (((2, 3, 1), (2, 3, 4)), {"axis": -1}),
        "empty_part": (((2, 0), (2, 3)), {}),
        "empty_batch": (((0, 2), (0, 3)), {}),
    },
    refuses={
        "other_sizes": (((2, 3, 4), (2, 3, 5)), {}, ShapeError, "(2, 3, 5)"),
        "no_such_axis": (((2, 3), (2, 3)), {"axis": 2}, ShapeError, "axis"),
        "nothing": ((), {}, ShapeError, ""),
    },
    bench={"two_32x28x28_b16": (((16, 32, 28, 28), (16, 32, 28, 28)), {})},
    spread=False,
)
samples(
    "pad2d",
    {
        "one_pixel": (((1, 1, 1, 1),), {"padding": 1}),
        "pair": (((2, 3, 4, 5),), {"padding": (1, 2)}),
        "four_sides": (((2, 3, 4, 5),), {"padding": (0, 1, 2, 3), "value": 1.5}),
        "nothing": (((2, 3, 4, 5),), {"padding": 0}),
        "empty_batch": (((0, 3, 4, 5),), {"padding": 1}),
    },
    refuses={
        "negative": (((1, 1, 3, 3),), {"padding": -1}, ShapeError, "padding"),
        "word": (((1, 1, 3, 3),), {"padding": "same"}, ShapeError, "padding"),
        "three_axes": (((1, 3, 3),), {"padding": 1}, ShapeError, "(N, C, H, W)"),
    },
    bench={"8x28x28_b100": (((100, 8, 28, 28),), {"padding": 2})},
)


def entry_of(operator: str) -> Entry | None:
    """What the table says of a built-in operator."""
    return TABLE.get(operator)


def all_cases() -> list[Case]:
    """Every case of every operator."""
    return [case for entry in TABLE.values() for case in entry.cases]


def all_refusals() -> list[Refusal]:
    """Every refusal of every operator."""
    return [refusal for entry in TABLE.values() for refusal in entry.refusals]


def bench_cases() -> list[Case]:
    """The cases that `pynn bench` times."""
    return [case for entry in TABLE.values() for case in entry.bench]
