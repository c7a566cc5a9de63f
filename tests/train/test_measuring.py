"""Callbacks that watch a training between the ends of its epochs."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.train.measuring import AccuracyEvery, Divergence, clipped_cross_entropy

RNG = np.random.default_rng(0)
X = RNG.random((70, 6)).astype("f")
Y = RNG.integers(0, 3, 70)


def train(lr, *callbacks, epochs=2):
    pynn.manual_seed(0)
    model = nn.Linear(6, 3)
    history = pynn.fit(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=lr), (X, Y), epochs=epochs,
        batch_size=20, callbacks=callbacks, progress=False,
    )  # fmt: skip
    return model, history


def test_accuracy_every_so_many_samples():
    watcher = AccuracyEvery(30, {"all": (X, Y), "few": (X[:7], Y[:7])})
    model, _ = train(0.1, watcher)
    assert [row["samples"] for row in watcher.rows] == [40, 60, 90, 130]
    one = AccuracyEvery(140, {"all": (X, Y)})
    model, _ = train(0.1, one)
    assert one.rows == [{"samples": 140, "all": np.mean(model(X).argmax(axis=1) == Y)}]


def test_divergence_is_noticed_and_ends_training():
    calm, wild = Divergence(), Divergence(factor=3)
    _, history = train(0.1, calm, epochs=3)
    assert calm.message is None
    assert len(history) == 3
    _, history = train(1000.0, wild, epochs=3)
    assert "more than 3 times its first value" in wild.message
    assert "(learning rate 1000)" in wild.message
    assert len(history) == 1


@pytest.mark.parametrize("floor", [1e-6, 0.2])
def test_clipped_cross_entropy(floor):
    model, _ = train(5.0)
    logits = np.float64(model(X))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(np.maximum(p[np.arange(70), Y], floor)))
    assert clipped_cross_entropy(model, X, Y, floor) == pytest.approx(expected, rel=1e-6)
    assert model.training
