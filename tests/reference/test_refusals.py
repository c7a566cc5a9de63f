"""What the reference checks by itself it refuses as the kernels do: same exception, same words."""

import numpy as np
import pytest

from pynn import _core, reference
from pynn.errors import DTypeError, LabelError, ShapeError


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def cross_entropy(logits, target, weight=None, smoothing=0.0, ignore_index=None, reduction="mean"):
    return (
        "cross_entropy",
        (logits, np.array(target), weight, smoothing, ignore_index, reduction, True),
    )


LOGITS = ones(4, 3)
MASKED = np.ma.masked_array([0, 1, 2, 0])
# name: ((operator, arguments), exception, words in it)
REFUSED = {
    "label_high": (
        cross_entropy(LOGITS, [0, 1, 3, 9]),
        LabelError,
        "label 3 at row 2 is outside 0",
    ),
    "label_negative": (cross_entropy(LOGITS, [0, 1, -1, 9]), LabelError, "label -1 at row 2"),
    "label_index": (
        cross_entropy(ones(2, 3, 4), [[0, 0, 0, 0], [0, 0, 5, 0]]),
        LabelError,
        "label 5 at index (1, 2) is outside 0..2",
    ),
    "label_unsigned": (
        cross_entropy(LOGITS, np.array([0, 1, 2**64 - 1, 0], np.uint64), ignore_index=-1),
        LabelError,
        "label 18446744073709551615 at row 2",
    ),
    "label_beside_ignored": (
        cross_entropy(LOGITS, [-100, 1, 3, 9], ignore_index=-100),
        LabelError,
        "label 3 at row 2",
    ),
    "labels_bool": (cross_entropy(LOGITS, [True] * 4), DTypeError, "got dtype bool"),
    "labels_time": (
        cross_entropy(LOGITS, np.zeros(4, "m8[s]")),
        DTypeError,
        "got dtype timedelta64[s]",
    ),
    "labels_list": (
        ("cross_entropy", (LOGITS, [0] * 4, None, 0.0, None, "mean", True)),
        DTypeError,
        "got list",
    ),
    "labels_masked": (
        ("cross_entropy", (LOGITS, MASKED, None, 0.0, None, "mean", True)),
        DTypeError,
        "target.filled(value)",
    ),
    "labels_column": (
        cross_entropy(LOGITS, [[0]] * 4),
        ShapeError,
        "target must have shape (4,) for logits of shape (4, 3), got (4, 1)",
    ),
    "probabilities_shape": (
        cross_entropy(LOGITS, ones(4)),
        ShapeError,
        "target must have shape (4, 3)",
    ),
    "probabilities_dtype": (
        cross_entropy(LOGITS, ones(4, 3, dtype=np.float32)),
        DTypeError,
        "target is float32 but the other arrays are float64",
    ),
    "probabilities_ignore": (
        cross_entropy(LOGITS, LOGITS, ignore_index=0),
        ValueError,
        "ignore_index is for integer labels",
    ),
    "logits_vector": (cross_entropy(ones(4), [0]), ShapeError, "got (4,)"),
    "class_weight": (
        cross_entropy(LOGITS, [0] * 4, weight=ones(4)),
        ShapeError,
        "weight must have shape (3,), got (4,)",
    ),
    "smoothing": (
        cross_entropy(LOGITS, [0] * 4, smoothing=1.5),
        ValueError,
        "label_smoothing must be between 0 and 1, got 1.5",
    ),
    "reduction": (
        cross_entropy(LOGITS, [0] * 4, reduction="avg"),
        ValueError,
        "reduction must be 'mean', 'sum' or 'none', got 'avg'",
    ),
    "mse_reduction": (("mse_loss", (LOGITS, LOGITS, "avg", True)), ValueError, "got 'avg'"),
    "mse_shape": (
        ("mse_loss", (ones(4, 1), ones(4), "mean", True)),
        ShapeError,
        "(4, 1), got (4,)",
    ),
    "relu_backward": (
        ("relu_backward", (ones(2, 3), ones(3, 2))),
        ShapeError,
        "dy must have shape (3, 2), got (2, 3)",
    ),
    "bias_backward": (("bias_backward", (ones(),)), ShapeError, "got shape ()"),
    "argmax_dtype": (
        ("max_pool2d_backward", (ones(1, 1, 1, 1), np.zeros((1, 1, 1, 1)), (1, 1, 2, 2))),
        DTypeError,
        "argmax must be a NumPy array of int64",
    ),
    "argmax_outside": (
        ("max_pool2d_backward", (ones(1, 1, 1, 1), np.full((1, 1, 1, 1), 4), (1, 1, 2, 2))),
        ShapeError,
        "outside 0..3",
    ),
    "argmax_negative": (
        ("max_pool2d_backward", (ones(1, 1, 1, 1), np.full((1, 1, 1, 1), -1), (1, 1, 2, 2))),
        ShapeError,
        "outside 0..3",
    ),
    "argmax_shape": (
        ("max_pool2d_backward", (ones(1, 1, 1, 1), np.zeros((1, 1, 1, 2), int), (1, 1, 2, 2))),
        ShapeError,
        "argmax must have shape (1, 1, 1, 1)",
    ),
    "pooled_channels": (
        ("max_pool2d_backward", (ones(1, 2, 1, 1), np.zeros((1, 2, 1, 1), int), (1, 1, 2, 2))),
        ShapeError,
        "for an input of shape (1, 1, 2, 2), got (1, 2, 1, 1)",
    ),
    "dropout": (("dropout", (ones(2, 2), 1.5, 0, 0, 0, 0)), ValueError, "between 0 and 1, got 1.5"),
    "dropout_nan": (("dropout", (ones(2, 2), np.nan, 0, 0, 0, 0)), ValueError, "got nan"),
    "philox": (("philox", (0, 0, 0, 0, -1)), ValueError, "count must not be negative, got -1"),
    "concat_sizes": (
        ("concat_backward", (ones(2, 5), [2, 2], -1)),
        ShapeError,
        "sizes (2, 2) do not divide axis 1 of dy, of shape (2, 5)",
    ),
    "concat_negative": (("concat_backward", (ones(2, 5), [6, -1], 1)), ShapeError, "(6, -1)"),
    "concat_overflow": (
        ("concat_backward", (ones(4, 2), [2**63 - 1, 2**63 - 1, 6], 0)),
        ShapeError,
        "do not divide axis 0",
    ),
    "concat_axis": (
        ("concat_backward", (ones(2, 5), [5], 2)),
        ShapeError,
        "axis 2 is out of range",
    ),
    "concat_nothing": (("concat", ([], 0)), ShapeError, "at least one array"),
    "padding": (
        ("pad2d_backward", (ones(1, 1, 2, 2), (1, 2))),
        ShapeError,
        "dy of shape (1, 1, 2, 2) is smaller than its padding (1, 1, 2, 2)",
    ),
    "update_axes": (
        ("sgd_update", (ones(2, 2), ones(2, 2), None, 0.1, 0.0, False, False, 0.0)),
        ShapeError,
        "g must have one dimension, got shape (2, 2)",
    ),
    "update_shape": (
        ("sgd_update", (ones(3), ones(2), None, 0.1, 0.0, False, False, 0.0)),
        ShapeError,
        "p must have shape (2,), got (3,)",
    ),
    "update_dtype": (
        ("rmsprop_update", (ones(2), ones(2), ones(2, dtype=np.float32), None, 1, 1, 1, 1, 1)),
        DTypeError,
        "square must be float64, got float32",
    ),
    "update_strided": (
        ("sgd_update", (ones(4)[::2], ones(2), None, 0.1, 0.0, False, False, 0.0)),
        DTypeError,
        "p is updated in place",
    ),
    "update_step": (
        ("adam_update", (ones(2), ones(2), ones(2), ones(2), 0, 1, 1, 1, 1, 1, False)),
        ValueError,
        "step must be 1 or more, got 0",
    ),
    "sum_axes": (("sum_of_squares", (ones(2, 2),)), ShapeError, "g must have one dimension"),
}


@pytest.mark.parametrize(("call", "exception", "words"), REFUSED.values(), ids=REFUSED)
def test_refuses_as_the_kernels_do(call, exception, words):
    op, arguments = call
    with pytest.raises(exception) as ours:
        getattr(reference, op)(*arguments)
    assert words in str(ours.value)
    with pytest.raises(exception) as theirs:
        getattr(_core, op)(*arguments)
    assert str(ours.value) == str(theirs.value)
    assert type(ours.value) is type(theirs.value)
