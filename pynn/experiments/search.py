"""Study 4e: learning rate, batch size and layers of a perceptron, searched on a grid."""

from __future__ import annotations

from typing import Any

import pynn
from pynn import nn, optim
from pynn.data import Batches, split_last
from pynn.experiments.setup import Setup, Study, around, at_least
from pynn.report import Comparison, Panel, curves
from pynn.train.settings import Setting, grid
from pynn.train.sweep import SweepRun

PUBLISHED_BEST = {"lr": 0.1, "batch_size": 16, "first": 600, "second": 400}
PUBLISHED_PARAMETERS = 715_410


def parameters(inputs: int, first: int, second: int, outputs: int) -> int:
    """Weights and biases of the network."""
    return first * (inputs + 1) + second * (first + 1) + outputs * (second + 1)


def length(setting: Setting) -> float:
    """Of a run, roughly: a step takes as long as its 16 samples do, and once more to update."""
    size = parameters(784, setting["first"], setting["second"], 10)
    return float(setting["epochs"] * size * (1 + 16 / setting["batch_size"]))


def settings(setup: Setup) -> list[Setting]:
    """The 72 combinations of 0.5 M to 1 M parameters on 28 x 28 pixels; eight of them if quick."""
    axes: dict[str, list[Any]] = {
        "lr": [0.1, 0.01, 0.001],
        "batch_size": [16, 32, 64],
        "first": [400, 500, 600],
        "second": [400, 500, 600],
    }
    if setup.quick:
        axes = {"lr": [0.1, 0.01], "batch_size": [16, 64], "first": [400, 600], "second": [400]}
    found = grid(
        axes, where=lambda s: 500_000 <= parameters(784, s["first"], s["second"], 10) <= 1_000_000
    )
    epochs = setup.epochs or (2 if setup.quick else 15)
    return [{**setting, "epochs": epochs, "held_out": setup.held_out(10_000)} for setting in found]


def train(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """One network: ReLU, Glorot uniform weights, zero biases, plain SGD, inputs in [0, 1]."""
    images, labels = run.data.train_images, run.data.train_labels
    kept, held_out = split_last(len(labels), setting["held_out"])
    inputs, outputs = images[0].size, len(run.data.classes)

    def linear(before: int, after: int) -> nn.Linear:
        return nn.Linear(before, after, weight_init="glorot_uniform", bias_init="zeros")

    model = nn.Sequential(
        nn.Flatten(),
        linear(inputs, setting["first"]),
        nn.ReLU(),
        linear(setting["first"], setting["second"]),
        nn.ReLU(),
        linear(setting["second"], outputs),
    )
    history = pynn.fit(
        model,
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=setting["lr"]),
        Batches(images[kept], labels[kept], setting["batch_size"], seed=run.seed, reuse=True),
        valid=Batches(images[held_out], labels[held_out], 500, shuffle=False, reuse=True),
        epochs=setting["epochs"],
        callbacks=[run.callback()],
        progress=False,
    )
    return {
        "parameters": sum(parameter.size for parameter in model.parameters()),
        "valid_accuracy": history.rows[-1]["valid_accuracy"],
        "valid_loss": history.rows[-1]["valid_loss"],
        "history": history.rows,
    }


def run(setup: Setup) -> Study:
    """Train all networks, in parallel, and rank them."""
    chosen = settings(setup)
    [results] = yield [setup.sweep(train, chosen, monitor="valid_accuracy", length=length)]
    ranked = sorted(zip(chosen, results, strict=True), key=lambda pair: -pair[1]["valid_accuracy"])
    best, found = ranked[0]
    reached = sum(result["valid_accuracy"] >= 0.98 for result in results)

    report = setup.report(
        "search", "Search over 72 perceptrons", optimiser="SGD", epochs=best["epochs"],
        held_out=best["held_out"], initialisation="Glorot uniform weights",
        ours={"biases": "zero"},
    )  # fmt: skip
    report.result = {
        "best": {name: best[name] for name in PUBLISHED_BEST},
        "best_valid_loss": found["valid_loss"],
        "best_parameters": found["parameters"],
        "best_valid_accuracy": found["valid_accuracy"],
        "reached_0.98": reached,
    }
    report.compare(
        "Beside the published search",
        [
            setup.comparison(
                "best validation accuracy", 0.9842, found["valid_accuracy"], at_least(0.982)
            ),
            setup.comparison("learning rate of the best", 0.1, best["lr"], around(0.1, 0)),
            setup.comparison("networks that reach 0.98", 17, reached, at_least(12)),
            *(
                Comparison(
                    name, published, ours, compared=False,
                    remark="not asked to be the same: the best are close together",
                )
                for name, published, ours in (
                    ("batch size of the best", PUBLISHED_BEST["batch_size"], best["batch_size"]),
                    ("units of the best, first layer", PUBLISHED_BEST["first"], best["first"]),
                    ("units of the best, second layer", PUBLISHED_BEST["second"], best["second"]),
                    ("parameters of the best", PUBLISHED_PARAMETERS, found["parameters"]),
                    ("validation loss of the best", "about 0.09", found["valid_loss"]),
                )
            ),
        ],
    )  # fmt: skip
    columns = ("lr", "batch size", "first layer", "second layer", "parameters")
    rows = [
        [
            s["lr"], s["batch_size"], s["first"], s["second"], r["parameters"],
            r["valid_accuracy"], r["valid_loss"], r["seconds"],
        ]
        for s, r in zip(chosen, results, strict=True)
    ]  # fmt: skip
    measured = ("validation accuracy", "validation loss", "seconds")
    best_ten = sorted(rows, key=lambda row: -float(row[5] or 0))[:10]
    report.table("The ten best", (*columns, *measured), best_ten)
    report.figure("best", _curves(found["history"]), f"The best network: {_said(best)}.")
    report.table("All networks", (*columns, *measured), rows)
    return report


def _said(setting: Setting) -> str:
    return (
        f"learning rate {setting['lr']}, batches of {setting['batch_size']}, "
        f"{setting['first']} and {setting['second']} units"
    )


def _curves(history: list[dict[str, float]]) -> Any:
    epochs = [row["epoch"] for row in history]
    panels = [
        Panel(
            {part: (epochs, [row[f"{part}_{quantity}"] for row in history])
             for part in ("train", "valid")},
            y=unit,
        )
        for quantity, unit in (("accuracy", "accuracy (share)"), ("loss", "cross-entropy (nats)"))
    ]  # fmt: skip
    return curves(panels)
