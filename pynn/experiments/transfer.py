"""Study 2h: the convolutions of a network that was trained on something else, frozen, under a new
head; beside convolutions of random weights, and beside training everything from scratch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pynn
from pynn import init, io, nn, optim
from pynn.data import Batches, Dataset, resize
from pynn.experiments.people import PARTS, People, people
from pynn.experiments.setup import Setup, Study, at_least
from pynn.graph import Array
from pynn.io.digest import sha256_of
from pynn.models import AlexNetFeatures, SqueezeNet, extract_features, imagenet_input
from pynn.report import Comparison, Panel, Report, curves
from pynn.train.best_iteration import BestIteration
from pynn.train.settings import Setting
from pynn.train.sweep import Result, SweepRun

HEAD, DROPOUT = (2048, 12), 0.5
LEARNING_RATE, MOMENTUM = 0.01, 0.99  # with the full batch
# Not published with the study, so ours.
ITERATIONS, EVERY = 400, 5
LARGE_SCRATCH = 30  # iterations from scratch on 224 x 224 pixels, each of which takes long
SMALL, LARGE = 32, 224  # pixels along a side
PRETRAINING_IMAGES, PRETRAINING_EPOCHS = 10_000, 8
PRETRAINING = {"batch_size": 64, "lr": 0.02, "momentum": 0.9}
PUBLISHED = {"iteration": 100, "train": 1.0, "test": 0.606}


@dataclass(frozen=True, eq=False)
class Task:
    """What the runs of a study have in common.

    Attributes:
        found: images and labels of the people.
        weights: file of the convolutions' weights, sha256 of its content; None: they are trained
            first.
        source: what the small network is pretrained on; mean and deviation of its images.
    """

    found: People
    weights: Path | None = None
    sha256: str = ""
    source: Dataset | None = None
    mean: float = 0.0
    deviation: float = 1.0


def small_features(channels: int) -> nn.Sequential:
    """AlexNet's features up to the fourth convolution for 32 x 32 pixels: half as many channels,
    smaller first kernels with stride 2, padded pools; x (N, channels, 32, 32) -> (N, 128, 2, 2)."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(32, 96, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(96, 192, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 128, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def he_initialised(trunk: nn.Module) -> nn.Module:
    """Give all convolutions He's weights, under which activations keep their size, and no bias."""
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            rng = pynn.random.default_rng()
            layer.weight.data = init.he_uniform()(layer.weight.shape, rng, layer.weight.dtype)
            layer.bias.data = np.zeros(layer.bias.shape)
    return trunk


def head(features: int, classes: int) -> nn.Sequential:
    """What is trained on the features."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(DROPOUT),
        nn.Linear(features, HEAD[0]),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HEAD[0], HEAD[1]),
        nn.ReLU(),
        nn.Linear(HEAD[1], classes),
    )


def standardised(images: NDArray[np.uint8], task: Task) -> Array:
    """Images less the mean, divided by the standard deviation, of the pretraining images."""
    pixels = images.astype(np.float32)
    pixels -= task.mean
    pixels /= task.deviation
    return pixels


def pretrain(trunk: nn.Module, task: Task, setting: Setting, run: SweepRun) -> dict[str, Any]:
    """Train the small features under a single dense layer, and keep them."""
    begin = time.perf_counter()
    source = task.source
    assert source is not None
    model = nn.Sequential(trunk, nn.Flatten(), nn.Linear(512, len(source.classes)))
    loss = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=setting["lr"], momentum=setting["momentum"])
    pynn.fit(
        model,
        loss,
        optimizer,
        Batches(
            standardised(source.train_images, task), source.train_labels, setting["batch_size"],
            seed=run.seed, reuse=True,
        ),
        epochs=setting["epochs"],
        schedule=optim.CosineAnnealingLR(optimizer, setting["epochs"], floor=0.0),
        callbacks=[run.callback()],
        progress=False,
    )  # fmt: skip
    io.save(run.folder / "features.safetensors", trunk.state_dict())
    test = standardised(source.test_images, task), source.test_labels
    return {
        "pretraining_accuracy": pynn.evaluate(model, loss, test)["accuracy"],
        "pretraining_seconds": time.perf_counter() - begin,
    }


def transfer(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """One kind of features under a new head."""
    task: Task = run.data
    found = task.found
    trunk, prepare = _trunk(setting, task)
    pretrained = {}
    if setting["pretraining"]:
        pretrained = pretrain(trunk, task, setting["pretraining"], run)
    if setting["trained"] == "all":
        x = {name: prepare(found.images[name]) for name in PARTS}
        features = trunk(x["train"][:1]).size
        model = nn.Sequential(trunk, head(features, len(found.classes)))
    else:  # the images never change: features are computed once
        x = {name: extract_features(trunk, found.images[name], prepare=prepare) for name in PARTS}
        mean, deviation = x["train"].mean(axis=0), x["train"].std()
        x = {name: (x[name] - mean) / deviation for name in PARTS}
        features = x["train"].shape[1]
        model = head(features, len(found.classes))
    loss = nn.CrossEntropyLoss()
    parts = {name: (x[name], found.labels[name]) for name in PARTS}
    best = BestIteration(min(EVERY, setting["iterations"]), parts, loss)
    pynn.fit(
        model,
        loss,
        optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM),
        parts["train"],
        epochs=setting["iterations"],  # of one batch each
        batch_size=len(found.labels["train"]),
        callbacks=[best, run.callback()],
        progress=False,
    )
    return {"features": features, "rows": best.rows, **best.best, **pretrained}


def _trunk(setting: Setting, task: Task) -> tuple[nn.Module, Callable[[Any], Array]]:
    """The convolutions of a setting, and what prepares images for them."""
    if setting["network"] == "SqueezeNet":
        assert task.weights is not None
        whole = SqueezeNet()
        whole.load(task.weights)
        return nn.Sequential(whole.features, nn.GlobalAvgPool2d()), imagenet_input
    if setting["network"] == "AlexNet":
        alexnet = AlexNetFeatures(convolutions=4)
        if setting["weights"] == "random":
            he_initialised(alexnet)
        else:
            assert task.weights is not None
            alexnet.load(task.weights)
        return alexnet, imagenet_input
    trunk = he_initialised(small_features(task.found.images["train"].shape[1]))
    return trunk, lambda images: standardised(images, task)


def run(setup: Setup) -> Study:
    """Pretrain where no weights are named; then all kinds of features."""
    iterations = setup.epochs or (40 if setup.quick else ITERATIONS)
    pretraining: Setting = {}
    if setup.weights is not None:
        network, origin, scratch = "AlexNet", setup.weights.name, min(iterations, LARGE_SCRATCH)
        found = people(setup, LARGE, 3)
        task = Task(found.without_note(), setup.weights, sha256_of(setup.weights))
    else:
        network, scratch = "small AlexNet", iterations
        found, source = _source(setup)
        origin, pictures = source.name, source.train_images
        mean, deviation = float(pictures.mean()), float(pictures.std())
        task = Task(found.without_note(), source=source, mean=mean, deviation=deviation)
        epochs = setup.epochs or (2 if setup.quick else PRETRAINING_EPOCHS)
        pretraining = {**PRETRAINING, "epochs": epochs}

    def setting(network: str, weights: str, trained: str, iterations: int) -> Setting:
        return {
            "network": network, "weights": weights, "trained": trained, "iterations": iterations,
            "pretraining": pretraining if weights == origin else {},
        }  # fmt: skip

    settings = {
        f"frozen, pretrained on {origin}": setting(network, origin, "head", iterations),
        "frozen, random": setting(network, "random", "head", iterations),
        "all from scratch": setting(network, "random", "all", scratch),
    }
    sweeps = [setup.sweep(transfer, list(settings.values()), monitor="valid_accuracy", data=task)]
    if setup.squeezenet is not None:
        squeezenet = Task(
            people(setup, LARGE, 3).of_classes(*task.found.among).without_note(), setup.squeezenet,
            sha256_of(setup.squeezenet),
        )  # fmt: skip
        name = "frozen, SqueezeNet"
        settings[name] = setting("SqueezeNet", "ImageNet", "head", iterations)
        sweeps.append(
            setup.sweep(transfer, [settings[name]], monitor="valid_accuracy", data=squeezenet)
        )
    found_by_all = yield sweeps
    results = dict(zip(settings, itertools.chain(*found_by_all), strict=True))

    report = setup.report(
        "transfer", "Transfer: frozen features under a new head",
        head=f"dropout {DROPOUT}, {HEAD[0]}, ReLU, dropout {DROPOUT}, {HEAD[1]}, ReLU, classes",
        optimiser=f"SGD, learning rate {LEARNING_RATE}, momentum {MOMENTUM}, full batch",
        ours={
            "iterations": f"{iterations}, measured every {min(EVERY, iterations)}",
            "iterations_from_scratch": scratch,
            "features": "less their means over the training images, divided by their standard "
            "deviation",
            "random_weights": "He uniform",
            "pretraining": pretraining or "none: weights were named",
        },
    )  # fmt: skip
    report.note(found.note)
    if task.source is None:
        said = f"AlexNet up to the fourth convolution, weights of {origin}."
    else:
        accuracy = next(iter(results.values()))["pretraining_accuracy"]
        said = (
            "a small AlexNet (32 x 32 pixels, 5 x 5 kernels with stride 2 first, half the "
            f"channels, padded pools), pretrained here on {len(task.source.train_labels)} images "
            f"of {origin}: test accuracy there {accuracy:.3f}."
        )
    report.note(f"Features: {said}")
    if setup.squeezenet is not None:
        report.note(
            "SqueezeNet 1.0: the means of its 512 last maps, from images of 224 x 224 pixels."
        )
    _tell(report, task.found, results)
    return report


def _source(setup: Setup) -> tuple[People, Dataset]:
    """Whom to transfer to, and what to pretrain on; where nothing is named, half of the classes for
    each."""
    if setup.pretrain is not None:
        given = setup.pretrain
        channels = 3 if setup.faces else given.train_images.shape[1]
        kept = slice(PRETRAINING_IMAGES // 5 if setup.quick else PRETRAINING_IMAGES)
        return people(setup, SMALL, channels), Dataset(
            given.name,
            resize(given.train_images[kept], SMALL, channels=channels), given.train_labels[kept],
            resize(given.test_images[kept], SMALL, channels=channels), given.test_labels[kept],
            given.classes,
        )  # fmt: skip
    whole = people(setup, SMALL, 3 if setup.faces else 1)
    half = len(whole.classes) // 2
    others = whole.of_classes(half, len(whole.classes))
    first = whole.of_classes(0, half)
    if setup.faces is not None:
        name = "the first half of the people"
        images = np.concatenate([first.images["train"], first.images["valid"]])
        labels = np.concatenate([first.labels["train"], first.labels["valid"]])
        test_images, test_labels = first.images["test"], first.labels["test"]
    else:
        name = f"{', '.join(first.classes)} of {setup.dataset.name}"
        (images, labels), (test_images, test_labels) = (
            (resize(x[y < half], SMALL), y[y < half]) for x, y in (setup.train, setup.test)
        )
        images, labels = images[:PRETRAINING_IMAGES], labels[:PRETRAINING_IMAGES]
    return others, Dataset(name, images, labels, test_images, test_labels, first.classes)


def _tell(report: Report, found: People, results: dict[str, Result]) -> None:
    """Tables and figures."""
    first = next(iter(results.values()))
    report.settings["classes"] = len(found.classes)
    report.settings["images"] = found.counts
    remark = "published for six people in RGB; the bound is ours"
    report.compare(
        "Frozen pretrained features beside the published study",
        [
            Comparison(
                "train accuracy", "near 1", first["train_accuracy"], *at_least(0.95),
                remark=remark, compared=found.compared,
            ),
            Comparison(
                "test accuracy", PUBLISHED["test"], first["test_accuracy"],
                *at_least(PUBLISHED["test"]), remark=remark, compared=found.compared,
            ),
            Comparison(
                "best iteration", PUBLISHED["iteration"], int(first["iteration"]),
                remark="published for six people in RGB", compared=False,
            ),
        ],
    )  # fmt: skip
    report.table(
        "Each at its best iteration on validation",
        ("features", "number", "best iteration", "train accuracy", "validation accuracy",
         "test accuracy", "time without pretraining"),
        [
            [name, r["features"], int(r["iteration"]), r["train_accuracy"], r["valid_accuracy"],
             r["test_accuracy"], f"{r['seconds'] - r.get('pretraining_seconds', 0):.0f} s"]
            for name, r in results.items()
        ],
    )  # fmt: skip
    report.figure(
        "curves", _curves(results), "Accuracy of the three sets against iterations; the vertical "
        "line is the iteration with the best validation.",
    )  # fmt: skip
    report.figure("loss", _losses(results), "Validation loss of all.")
    report.result = {
        name: {"iteration": int(r["iteration"])}
        | {f"{p}_accuracy": r[f"{p}_accuracy"] for p in PARTS}
        for name, r in results.items()
    }


def _curves(results: dict[str, Result]) -> Any:
    panels = []
    for name, result in results.items():
        rows = result["rows"]
        iterations = [row["iteration"] for row in rows]
        lines: dict[str, Any] = {
            part: (iterations, [row[f"{part}_accuracy"] for row in rows]) for part in PARTS
        }
        lines["chosen"] = ([result["iteration"]] * 2, [0.0, 1.0])
        panels.append(Panel(lines, title=name, x="iteration", limits=(-0.02, 1.02)))
    return curves(panels)


def _losses(results: dict[str, Result]) -> Any:
    lines = {
        name: ([row["iteration"] for row in r["rows"]], [row["valid_loss"] for row in r["rows"]])
        for name, r in results.items()
    }
    return curves([Panel(lines, x="iteration", y="validation cross-entropy (nats)", log="y")])
