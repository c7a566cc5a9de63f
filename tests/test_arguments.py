"""Arguments that are no numbers, or none that fit, are named in the error."""

import re

import numpy as np
import pytest

import pynn
from pynn import arguments, data, nn, ops, optim, train

X, Y = np.zeros((8, 3), np.float32), np.arange(8) % 2


def parameters():
    return nn.Linear(3, 2).parameters()


def sgd():
    return optim.SGD(parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(28 * 28 / 2, 10), TypeError, "in_features must be a whole number, got 392.0"),
        (lambda: nn.Linear(10, None), TypeError, "out_features must be a whole number, got None"),
        (lambda: nn.Linear(0, 10), ValueError, "in_features must be 1 or more, got 0"),
        (lambda: nn.Linear(3, 2, dtype="real"), pynn.DTypeError, "a model is float32 or float64, got 'real'"),
        (lambda: nn.Conv2d(1, "8", 3), TypeError, "out_channels must be a whole number, got '8'"),
        (lambda: nn.Conv2d(1, 8, 3, groups=0), ValueError, "groups must be 1 or more, got 0"),
        (lambda: nn.Conv2d(1, 8, 2.5), TypeError, "kernel_size must be a whole number, got 2.5"),
        (lambda: nn.Conv2d(1, 8, (3, 2.5)), TypeError, "each number of kernel_size must be a whole number, got 2.5"),
        (lambda: nn.Conv2d(1, 8, (3, 0)), ValueError, "each number of kernel_size must be 1 or more, got 0"),
        (lambda: nn.Conv2d(1, 8, 3, padding=0.5), TypeError, "padding must be a whole number, got 0.5"),
        (lambda: nn.MaxPool2d([2, 2, 2]), ValueError, "kernel_size must be one int or a pair, got [2, 2, 2]"),
        (lambda: nn.BatchNorm2d(None), TypeError, "num_features must be a whole number, got None"),
        (lambda: nn.BatchNorm2d(4, momentum=None), TypeError, "momentum must be a number, got None"),
        (lambda: nn.BatchNorm2d(4, eps="1e-5"), TypeError, "eps must be a number, got '1e-5'"),
        (lambda: nn.BatchNorm2d(4, eps=-1), ValueError, "eps must be 0 or more, got -1"),
        (lambda: nn.Bias((1, 2.0)), TypeError, "each number of shape must be a whole number, got 2.0"),
        (lambda: nn.Bias((1, -2)), ValueError, "each number of shape must be 0 or more, got -2"),
        (lambda: nn.Reshape(7, 7.0), TypeError, "each number of shape must be a whole number, got 7.0"),
        (lambda: nn.Flatten(1.5), TypeError, "start_axis must be a whole number, got 1.5"),
        (lambda: nn.Softmax(axis=1.5), TypeError, "axis must be a whole number, got 1.5"),
        (lambda: nn.Dropout("half"), TypeError, "p must be a number, got 'half'"),
        (lambda: nn.Dropout(np.nan), ValueError, "p must be in 0 ... 1, got nan"),
        (lambda: nn.DropBlock2d(0.1, 2.9), TypeError, "block_size must be a whole number, got 2.9"),
        (lambda: nn.LeakyReLU(None), TypeError, "negative_slope must be a number, got None"),
        (lambda: nn.Pad2d(1, value="zero"), TypeError, "value must be a number, got 'zero'"),
        (lambda: nn.ModuleList(nn.Linear(3, 2)), TypeError, "modules must be a sequence, got Linear(3, 2)"),
        (lambda: nn.CrossEntropyLoss(ignore_index=0.5), TypeError, "ignore_index must be a whole number, got 0.5"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, "label_smoothing must be in 0 ... 1, got 2"),
        (lambda: optim.SGD(nn.Linear(3, 2)), TypeError, "such as model.parameters(), got Linear"),
        (lambda: optim.SGD(nn.Sequential(nn.ReLU())), TypeError, "such as model.parameters(), got ReLU"),
        (lambda: optim.SGD(parameters(), momentum="0.9"), TypeError, "momentum must be a number, got '0.9'"),
        (lambda: optim.Adam(parameters(), betas=0.9), TypeError, "betas must be a sequence, got 0.9"),
        (lambda: optim.Adam(parameters(), betas=(0.9, None)), TypeError, "each of betas must be a number, got None"),
        (lambda: optim.Adam(parameters(), eps=None), TypeError, "eps must be a number, got None"),
        (lambda: optim.RMSprop(parameters(), alpha=1.5), ValueError, "alpha must be in 0 ... 1, got 1.5"),
        (lambda: optim.StepLR(nn.Linear(3, 2), 1), TypeError, "a schedule takes an optimiser, got Linear"),
        (lambda: optim.StepLR(sgd(), 1.5), TypeError, "step_size must be a whole number, got 1.5"),
        (lambda: optim.OneCycleLR(sgd(), None, 5), TypeError, "max_lr must be a number, got None"),
        (lambda: optim.ReduceLROnPlateau(sgd(), patience=None), TypeError, "patience must be a whole number, got None"),
        (lambda: optim.ReduceLROnPlateau(sgd(), factor="x"), TypeError, "factor must be a number, got 'x'"),
        (lambda: pynn.manual_seed("7"), TypeError, "seed must be a whole number, got '7'"),
        (lambda: pynn.compile(nn.Linear(3, 2), nn.MSELoss(), sgd(), accumulate=0), ValueError, "accumulate must be 1 or more, got 0"),
        (lambda: pynn.fit(None, nn.MSELoss(), sgd(), (X, Y)), TypeError, "model must be a Module, got None"),
        (lambda: pynn.fit(nn.Linear(3, 2), nn.MSELoss(), sgd(), (X, Y), epochs=1.5), TypeError, "epochs must be a whole number, got 1.5"),
        (lambda: pynn.fit(nn.Linear(3, 2), nn.MSELoss(), sgd(), (X, Y), callbacks=None), TypeError, "callbacks must be a sequence, got None"),
        (lambda: train.evaluate(nn.Linear(3, 2), "mse", (X, Y)), TypeError, "loss must be a Loss, got 'mse'"),
        (lambda: train.evaluate(nn.Linear(3, 2), nn.MSELoss(), (X, Y), batch_size="all"), TypeError, "batch_size must be a whole number, got 'all'"),
        (lambda: train.EarlyStopping(patience=2.5), TypeError, "patience must be a whole number, got 2.5"),
        (lambda: train.Checkpoint("run.npz", every=None), TypeError, "every must be a whole number, got None"),
        (lambda: data.Batches(X, Y, 0), ValueError, "batch_size must be 1 or more, got 0"),
        (lambda: data.Batches(X, Y, 4, scale="1/255"), TypeError, "scale must be a number, got '1/255'"),
        (lambda: data.Batches(X, Y, 4, dtype="real"), pynn.DTypeError, "dtype must be float32 or float64, got 'real'"),
        (lambda: data.split_last(8, 0.2), TypeError, "held_out must be a whole number, got 0.2"),
        (lambda: data.split_random(8, [6.4, 1.6], 0), TypeError, "each of sizes must be a whole number, got 6.4"),
        (lambda: data.split_by_class(Y, 0.5, 0), TypeError, "shares must be a sequence, got 0.5"),
        (lambda: ops.concat(None), TypeError, "arrays must be a sequence, got None"),
    ],
)  # fmt: skip
def test_the_error_names_the_argument(call, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert type(caught.value) is error


def test_whole_numbers_of_every_kind_are_taken():
    for value in (3, np.int64(3), np.uint8(3), np.array(3), True + 2):
        number = arguments.whole_number("n", value)
        assert number == 3
        assert type(number) is int
    assert type(arguments.whole_number("n", True)) is int
    for value in ((2, 3), [2, 3], np.array([2, 3]), (size for size in (2, 3)), range(2, 4)):
        assert arguments.whole_numbers("n", value) == (2, 3)
    assert arguments.whole_numbers("n", np.array(2)) == 2
    for value in (2.0, "2", b"2", np.float32(2), np.array([2]), np.array(2.0)):
        with pytest.raises(TypeError, match="n must be a whole number"):
            arguments.whole_number("n", value)


def test_numbers_of_every_kind_are_taken():
    for value in (0.5, np.float32(0.5), np.array(0.5)):
        number = arguments.real_number("n", value)
        assert number == 0.5
        assert type(number) is float
    for value in (None, "0.5", b"0.5", [0.5], np.zeros(2), 10**400, 1j):
        with pytest.raises(TypeError, match="n must be a number"):
            arguments.real_number("n", value)


def test_a_long_value_is_shown_in_short():
    with pytest.raises(TypeError) as caught:
        arguments.whole_number("n", np.zeros(10_000))
    assert len(str(caught.value)) < 80


def test_a_bias_takes_one_size():
    assert nn.Bias(6).bias.shape == (6,)
    assert nn.Reshape(6).shape == nn.Reshape((6,)).shape == (6,)
