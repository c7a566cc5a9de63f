"""Callbacks that watch a training between the ends of its epochs."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.data import Batches
from pynn.train.best_iteration import BestIteration
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


@pytest.mark.parametrize(
    ("data", "factor"),
    [
        (lambda x: (x, Y), 1.0),
        (lambda x: Batches(x, Y, 20), 1 / 255),
        (lambda x: Batches(x, Y, 20, scale=0.5), 0.5),
        (lambda x: (x.astype("f"), Y), 1.0),
    ],
)
def test_what_is_measured_is_scaled_as_what_is_trained_on(data, factor):
    x = RNG.integers(0, 256, (70, 6)).astype(np.uint8)
    same = x.astype("f") if isinstance(data(x), tuple) and data(x)[0].dtype == "f" else x
    model, loss = nn.Linear(6, 3), nn.CrossEntropyLoss()
    accuracy = AccuracyEvery(70, {"valid": (same, Y), "integers": (x.astype(int), Y)})
    best = BestIteration(4, {"valid": (same, Y)}, loss)
    history = pynn.fit(
        model, loss, optim.SGD(model.parameters(), lr=0.0), data(x), valid=(same, Y),
        callbacks=[accuracy, best], progress=False,
    )  # fmt: skip
    expected = pynn.evaluate(model, loss, ((x * factor).astype("f"), Y))
    assert history["valid_loss"] == pytest.approx([expected["loss"]], rel=1e-5)
    assert history["train_loss"] == pytest.approx([expected["loss"]], rel=1e-5)
    assert accuracy.rows[0]["valid"] == expected["accuracy"]
    assert best.best["valid_loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("samples", "labels", "said"),
    [(0, Y, "samples must be 1 or more, got 0"), (10, Y / 2, "need labels, .* 'all' has none")],
)
def test_accuracies_that_cannot_be_measured_are_refused(samples, labels, said):
    with pytest.raises(ValueError, match=said):
        AccuracyEvery(samples, {"all": (X, labels)})


def test_ignored_labels_count_in_no_measurement():
    labels = np.where(np.arange(70) % 3 == 0, -1, Y)
    accuracy = AccuracyEvery(70, {"all": (X, labels), "none": (X, np.full(70, -1))})
    model, loss = nn.Linear(6, 3), nn.CrossEntropyLoss(ignore_index=-1)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    pynn.fit(model, loss, optimizer, (X, labels), callbacks=[accuracy], progress=False)
    row = accuracy.rows[0]
    assert row["all"] == pynn.evaluate(model, loss, (X, labels))["accuracy"]
    assert np.isnan(row["none"])


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
