"""Study 5: a convolutional network of 206,500 parameters, with and without dropout."""

from __future__ import annotations

import json
from typing import Any

import pynn
from pynn import io, nn, optim
from pynn.data import Batches, split_last
from pynn.errors import ShapeError
from pynn.experiments.setup import Setup, Study, around, at_least
from pynn.report import Panel, curves, save_learning_curves
from pynn.train.history import History
from pynn.train.settings import Setting
from pynn.train.sweep import SweepRun

# Not published with the study, so ours: optimiser, learning rate and its schedule, batch size,
# rates, and the side of a block.
LEARNING_RATE, MOMENTUM, BATCH_SIZE = 0.05, 0.9, 64
DROPOUT = (0.25, 0.5)  # after the third convolution, and after the first dense layer
BLOCK_SIZE = 3
VARIANTS = ("plain", "dropout", "dropblock")


def network(image_size: int, classes: int, variant: str = "dropout") -> nn.Module:
    """The network for square grey images.

    28 x 28: the study's, 206,500 parameters for ten classes. 8 x 8: the same channels with 3 x 3
    kernels and "same" padding, so that the maps stay large enough.

    Args:
        image_size: 28 or 8.
        classes: number of outputs.
        variant: "plain"; "dropout" after the third convolution and the first dense layer; or
            "dropblock", with DropBlock in place of the first dropout.
    """
    padding: int | str
    if image_size == 28:
        kernels, padding, features = (5, 4, 3), 0, 360
    elif image_size == 8:
        kernels, padding, features = (3, 3, 3), "same", 160
    else:
        raise ShapeError(
            f"the network takes images of 28 x 28 or 8 x 8 pixels, got {image_size} x {image_size}"
        )
    first: dict[str, list[nn.Module]] = {
        "plain": [],
        "dropout": [nn.Dropout(DROPOUT[0])],
        "dropblock": [nn.DropBlock2d(DROPOUT[0], BLOCK_SIZE)],
    }
    return nn.Sequential(
        nn.Conv2d(1, 20, kernels[0], padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 30, kernels[1], padding=padding),
        nn.ReLU(),
        nn.Conv2d(30, 40, kernels[2], padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *first[variant],
        nn.Flatten(),
        nn.Linear(features, 500),
        nn.ReLU(),
        *([nn.Dropout(DROPOUT[1])] if variant != "plain" else []),
        nn.Linear(500, classes),
    )


def train(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """One variant: SGD with momentum, the learning rate falling as a cosine."""
    dataset = run.data
    images, labels = dataset.train_images, dataset.train_labels
    kept, held_out = split_last(len(images), setting["held_out"])
    model = network(images.shape[2], len(dataset.classes), setting["variant"])
    loss = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    history = pynn.fit(
        model,
        loss,
        optimizer,
        Batches(images[kept], labels[kept], BATCH_SIZE, seed=run.seed, reuse=True),
        valid=Batches(images[held_out], labels[held_out], 256, shuffle=False, reuse=True),
        epochs=setting["epochs"],
        schedule=optim.CosineAnnealingLR(optimizer, setting["epochs"], floor=0.01),
        callbacks=[run.callback()],
        progress=False,
    )
    test = pynn.evaluate(
        model, loss, Batches(dataset.test_images, dataset.test_labels, 256, shuffle=False)
    )
    io.save(run.folder / "model.safetensors", model.state_dict())
    last = history.rows[-1]
    return {
        "parameters": sum(parameter.size for parameter in model.parameters()),
        "rows": history.rows,
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        **{name: last[name] for name in
           ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")},
    }  # fmt: skip


def run(setup: Setup) -> Study:
    """The three variants; model, history and curves of the one with dropout are kept beside the
    report."""
    default = 30 if setup.dataset.name == "digits" else 10
    epochs = setup.epochs or (5 if setup.quick else default)
    held_out = setup.held_out(10_000)
    settings: list[Setting] = [
        {"variant": variant, "epochs": epochs, "held_out": held_out} for variant in VARIANTS
    ]
    [found] = yield [setup.sweep(train, settings, monitor="valid_accuracy")]
    results = dict(zip(VARIANTS, found, strict=True))
    plain, kept = results["plain"], results["dropout"]

    report = setup.report(
        "convnet", "A convolutional network of 206,500 parameters", epochs=epochs,
        kernels="5, 4, 3" if setup.size == 28 else '3, 3, 3, padding "same": the images are small',
        ours={
            "optimiser": f"SGD, learning rate {LEARNING_RATE} (cosine), momentum {MOMENTUM}",
            "batch_size": BATCH_SIZE, "dropout": DROPOUT, "block_size": BLOCK_SIZE,
        },
    )  # fmt: skip
    report.compare(
        "Beside the published network",
        [
            setup.comparison("parameters", 206_500, plain["parameters"], around(206_500, 0)),
            setup.comparison(
                "validation accuracy", 0.98, plain["valid_accuracy"], at_least(0.985)
            ),
            setup.comparison(
                "validation loss", 0.08, plain["valid_loss"], (0, 0.08), remark=_searched(setup)
            ),
            setup.comparison(
                "validation loss with dropout", 0.074, kept["valid_loss"],
                (0, plain["valid_loss"]), remark="less than without",
            ),
        ],
    )  # fmt: skip
    report.table(
        "The three variants, after the last epoch",
        ("variant", "train loss", "validation loss", "validation error", "test accuracy", "time"),
        [
            [name, r["train_loss"], r["valid_loss"], 1 - r["valid_accuracy"], r["test_accuracy"],
             r["seconds"]]
            for name, r in results.items()
        ],
    )  # fmt: skip
    report.figure("variants", _curves(results), "Training and validation of the three variants.")
    model = network(setup.size, len(setup.dataset.classes))
    model.load_state_dict(io.load(f"{kept['folder']}/model.safetensors"))
    io.save(setup.out / "model.safetensors", model.state_dict())
    history = History(kept["rows"])
    history.to_csv(setup.out / "history.csv")
    history.to_json(setup.out / "history.json")
    save_learning_curves(
        setup.out / "curves.png", history, f"Convolutional network on {setup.dataset.name}"
    )
    measured = ("loss", "accuracy")
    report.result = {
        "data": setup.dataset.name,
        "parameters": kept["parameters"],
        "epochs": epochs,
        "seed": setup.seed,
        **{
            f"{part}_{quantity}": kept[f"{part}_{quantity}"]
            for part in ("train", "valid", "test")
            for quantity in measured
        },
        "samples": {
            "train": len(setup.dataset.train_labels) - held_out,
            "valid": held_out,
            "test": len(setup.dataset.test_labels),
        },
        "accuracies": {name: r["valid_accuracy"] for name, r in results.items()},
    }
    return report


def _searched(setup: Setup) -> str:
    """What the best network of `pynn run search` gave, where it has been run beside this."""
    try:
        text = (setup.out.parent / "search" / "result.json").read_text(encoding="utf-8")
        found = json.loads(text)
        loss, parameters = found["best_valid_loss"], found["best_parameters"]
    except (OSError, ValueError, KeyError):
        return "the study's best perceptron: about 0.09"
    return f"the best perceptron of the search: {loss:.4f} with {parameters:,} parameters"


def _curves(results: dict[str, Any]) -> Any:
    panels = []
    for quantity, unit in (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (share)")):
        lines = {}
        for name, result in results.items():
            epochs = [row["epoch"] for row in result["rows"]]
            for part in ("train", "valid"):
                values = [row[f"{part}_{quantity}"] for row in result["rows"]]
                lines[f"{name}, {part}"] = (epochs, values)
        panels.append(Panel(lines, y=unit))
    return curves(panels)
