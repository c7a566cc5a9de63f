"""Which iteration is the best, and whose weights the model has at the end."""

from types import SimpleNamespace

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.train.best_iteration import BestIteration

X, Y = np.array([[1.0], [2.0], [-1.0], [-2.0]]), np.array([1, 1, 0, 0])
LOSS = nn.CrossEntropyLoss()


def state(slope, bias=0.0, shift=0.0):
    """Class 1 is ahead of class 0 by 2 slope x + bias; the shift is of both."""
    return {"weight": np.array([[-slope], [slope]]), "bias": np.array([shift, bias + shift])}


def train(watcher, states):
    """Go through states as if each came with an iteration; the model as it is at the end."""
    model = nn.Linear(1, 2, dtype="float64")
    run = SimpleNamespace(
        model=model, epoch=0, step=SimpleNamespace(steps=0), as_trained=lambda part: part
    )
    for number, each in enumerate(states):
        model.load_state_dict(each)
        run.step.steps = number
        (watcher.on_batch_end if number else watcher.on_begin)(run)
    watcher.on_end(run)
    return model


CHOICES = {
    # Three of four right, and the fourth so wrong that the loss is 2.5.
    "the higher accuracy, though its loss is higher": ([state(0), state(10, 30), state(0)], 1),
    "of equal accuracies the lower loss": ([state(0.1), state(0.5), state(2), state(1)], 2),
    "of equal losses, too, the first": ([state(0), state(0, 0, 1), state(0, 0, -1)], 0),
    "the model before the first batch": ([state(1), state(-1), state(0.5)], 0),
    "the last": ([state(-1), state(0), state(1)], 2),
}


@pytest.mark.parametrize(("states", "best"), CHOICES.values(), ids=CHOICES)
def test_the_best_is(states, best):
    watcher = BestIteration(1, {"valid": (X, Y)}, LOSS)
    model = train(watcher, states)
    assert watcher.best["iteration"] == best
    assert watcher.best is watcher.rows[best]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, states[best][name])


def test_rows_tell_loss_and_accuracy_of_each_part():
    watcher = BestIteration(2, {"valid": (X, Y), "few": (X[2:], Y[2:])}, LOSS)
    train(watcher, [state(0), state(7), state(10, 30), state(8), state(0.5)])
    assert [row["iteration"] for row in watcher.rows] == [0, 2, 4]
    assert watcher.rows[1] == pytest.approx(
        {
            "iteration": 2, "valid_loss": 2.5, "valid_accuracy": 0.75, "few_loss": 5,
            "few_accuracy": 0.5,
        },
        rel=1e-4,  # of the two that are right about exp(-10) is passed over
    )  # fmt: skip


def test_without_labels_the_lowest_loss_is_the_best():
    model, loss, target = nn.Linear(1, 1), nn.MSELoss(), np.ones((5, 1))
    x = np.arange(5.0).reshape(5, 1)
    best = BestIteration(1, {"valid": (x, target)}, loss)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    pynn.fit(model, loss, optimizer, (x, target), epochs=3, callbacks=[best], progress=False)
    assert best.best["valid_loss"] == min(row["valid_loss"] for row in best.rows)
    assert pynn.evaluate(model, loss, (x, target))["loss"] == best.best["valid_loss"]


@pytest.mark.parametrize(("part", "best"), [("train", 2), ("valid", 1)])
def test_one_part_decides(part, best):
    parts = {"train": (X, Y), "valid": (X, 1 - Y)}
    watcher = BestIteration(1, parts, LOSS, chosen_on=part)
    train(watcher, [state(0), state(-1), state(1)])
    assert watcher.best["iteration"] == best


def test_a_training_ends_with_the_weights_of_its_best_iteration():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    parts = {"train": (x[:40], y[:40]), "valid": (x[40:], y[40:])}
    watcher = BestIteration(3, parts, LOSS)
    pynn.manual_seed(0)
    model = nn.Linear(4, 3, dtype="float64")
    pynn.fit(
        model, LOSS, optim.SGD(model.parameters(), lr=2.0), parts["train"], epochs=6, batch_size=10,
        callbacks=[watcher], progress=False,
    )  # fmt: skip
    assert [row["iteration"] for row in watcher.rows] == [*range(0, 25, 3)]
    ranks = [(row["valid_accuracy"], -row["valid_loss"]) for row in watcher.rows]
    assert watcher.rows.index(watcher.best) == ranks.index(max(ranks))
    for name, part in parts.items():
        measured = pynn.evaluate(model, LOSS, part)
        for quantity, value in measured.items():
            assert watcher.best[f"{name}_{quantity}"] == pytest.approx(value, rel=1e-12)
    assert len(set(ranks)) > 1


def test_what_cannot_be():
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"):
        BestIteration(0, {"valid": (X, Y)}, LOSS)
    with pytest.raises(ValueError, match="one of the parts, train, test, got 'valid'"):
        BestIteration(1, {"train": (X, Y), "test": (X, Y)}, LOSS)
