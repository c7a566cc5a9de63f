"""Study 2a to 2f: softmax regression, learning rates and momentum, and what a gradient costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pynn
from pynn import init, io, nn, ops, optim
from pynn.data import Batches
from pynn.experiments.setup import Setup, around, at_least
from pynn.report import Contour, Panel, Report, contours, curves, images
from pynn.testing import numerical_gradient
from pynn.train.landscape import loss_slice, trajectory
from pynn.train.measuring import AccuracyEvery
from pynn.train.settings import Setting
from pynn.train.sweep import SweepRun

RATES = tuple(round(0.01 * i, 2) for i in range(10))
MOMENTUM = 0.9
# Not published with the study, so ours: the batch size without momentum, the learning rate with it
# (a velocity sums ten gradients), the gradient check's step and floor, and the descent over two
# weights.
BATCH_SIZE, MOMENTUM_BATCH_SIZE = 64, 128
LEARNING_RATE, MOMENTUM_LEARNING_RATE = 0.01, 0.001
SLICE_RATE, SLICE_STEPS = 4.0, 30
STEP, FLOOR = 1e-5, 1e-3


def network(inputs: int, dtype: str = "float32") -> nn.Linear:
    """All weights N(0, 1) / sqrt(inputs), one input being the constant 1."""
    return nn.Linear(inputs, 10, bias=False, weight_init=init.normal(0, inputs**-0.5), dtype=dtype)


def with_one(images: NDArray[np.uint8], dtype: str = "float32") -> NDArray[Any]:
    """Pixels in [0, 1] and a constant 1 behind them, shape (N, pixels + 1)."""
    flat = images.reshape(len(images), -1).astype(dtype) / np.dtype(dtype).type(255)
    return np.concatenate([flat, np.ones((len(flat), 1), dtype)], axis=1)


def train(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """Softmax regression by SGD on shuffled batches; the loss is summed over the batch."""
    x, test = with_one(run.data.train_images), with_one(run.data.test_images)
    y = run.data.train_labels
    model = network(x.shape[1])
    fifth = slice(0, len(y) // 5)
    accuracy = AccuracyEvery(
        setting["batch_size"] * setting["measure_every"],
        {"train": (x[fifth], y[fifth]), "test": (test, run.data.test_labels)},
    )
    pynn.fit(
        model,
        nn.CrossEntropyLoss(reduction="sum"),
        optim.SGD(model.parameters(), lr=setting["lr"], momentum=setting["momentum"]),
        Batches(x, y, setting["batch_size"], seed=run.seed, drop_last=True, reuse=True),
        epochs=setting["epochs"],
        callbacks=[accuracy, run.callback()],
        progress=False,
    )
    io.save(run.folder / "model.safetensors", model.state_dict())
    return {"rows": accuracy.rows, "test_accuracy": accuracy.rows[-1]["test"]}


def check_gradient(setup: Setup) -> float:
    """The largest relative error of the gradient of 200 images, against central differences of each
    weight on its own, in float64. Gradients below FLOOR of the largest count as that large."""
    count = 20 if setup.quick else 200
    x = with_one(setup.dataset.train_images[:count], "float64")
    y = setup.dataset.train_labels[:count]
    pynn.manual_seed(setup.seed)
    model = network(x.shape[1], "float64")
    weights = model.weight.data
    start = ops.cross_entropy(ops.linear(x, weights), y, reduction="none")

    def loss() -> float:  # less what it was at the start: a sum of small numbers, rounded less
        now = ops.cross_entropy(ops.linear(x, weights), y, reduction="none")
        return float(np.sum(now - start))

    _, dlogits = ops.cross_entropy(ops.linear(x, weights), y, reduction="sum", return_grad=True)
    analytic = (dlogits.T @ x).reshape(-1)
    numerical = numerical_gradient(loss, weights, eps=STEP).reshape(-1)
    scale = np.maximum(np.maximum(abs(analytic), abs(numerical)), FLOOR * abs(analytic).max())
    return float(np.max(abs(analytic - numerical) / scale))


def cost_of_gradients(setup: Setup) -> dict[str, float]:
    """Seconds for ten epochs of gradients: of each weight on its own, by NumPy, and native."""
    x, y = with_one(setup.dataset.train_images), setup.dataset.train_labels
    pynn.manual_seed(setup.seed)
    model = network(x.shape[1])
    batch = slice(0, MOMENTUM_BATCH_SIZE)
    batches = 10 * (len(y) // MOMENTUM_BATCH_SIZE)
    weights = model.weight.data
    places = range(0, weights.size, weights.size // 100)

    def one_by_one() -> None:
        with pynn.backend("numpy"):
            numerical_gradient(
                lambda: float(ops.cross_entropy(ops.linear(x[batch], weights), y[batch])),
                weights, eps=1e-3, flat_indices=places,
            )  # fmt: skip

    def at_once(backend: str) -> None:
        with pynn.backend(backend):
            loss = nn.CrossEntropyLoss()
            loss(model(x[batch]), y[batch])
            model.backward(loss.backward())

    return {
        "each weight on its own": _seconds(one_by_one, 1) * weights.size / len(places) * batches,
        "NumPy": _seconds(lambda: at_once("numpy"), 20) * batches,
        "native": _seconds(lambda: at_once("native"), 50) * batches,
    }


def _seconds(function: Any, repeats: int) -> float:
    function()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(repeats):
            function()
        times.append((time.perf_counter() - begin) / repeats)
    return sorted(times)[2]


def run(setup: Setup) -> Report:
    """The six parts, in order."""
    inputs = setup.size**2 + 1
    epochs = setup.epochs or (1 if setup.quick else 2)
    every = 25 if setup.size == 28 else 2
    rates = RATES[::3] if setup.quick else RATES

    def setting(lr: float, momentum: float, batch_size: int) -> Setting:
        return {
            "lr": lr, "momentum": momentum, "batch_size": batch_size, "epochs": epochs,
            "measure_every": every,
        }  # fmt: skip

    chosen = [setting(lr, 0.0, BATCH_SIZE) for lr in rates]
    chosen.append(setting(MOMENTUM_LEARNING_RATE, MOMENTUM, MOMENTUM_BATCH_SIZE))
    chosen.append(setting(LEARNING_RATE, 0.0, BATCH_SIZE))
    results = setup.runs(train, chosen, monitor="test_accuracy")
    by_rate = dict(zip(rates, results, strict=False))
    with_momentum, plain = results[-2], results[-1]

    report = setup.report(
        "momentum", "Softmax regression: learning rates, momentum, gradients", epochs=epochs,
        batch_size=f"{BATCH_SIZE}, with momentum {MOMENTUM_BATCH_SIZE}",
        loss="cross-entropy summed over the batch",
    )  # fmt: skip
    report.figure("gallery", _gallery(setup), "Ten samples of each class.")
    error = check_gradient(setup)
    best = max(rates, key=lambda lr: float(by_rate[lr]["test_accuracy"]))
    seconds = cost_of_gradients(setup)
    times = seconds["each weight on its own"] / seconds["NumPy"]
    flat, steep, figure = _landscape(setup, plain["folder"], inputs)
    levels = {name: _level(r["rows"], b) for name, r, b in (
        ("SGD", plain, BATCH_SIZE), ("momentum", with_momentum, MOMENTUM_BATCH_SIZE),
    )}  # fmt: skip
    report.compare(
        "Beside the published values",
        [
            setup.comparison(
                "gradient check, largest relative error", "< 1e-7", error, (0, 1e-7),
                remark=f"step {STEP:g}; gradients below {FLOOR:g} of the largest count as that",
            ),
            setup.comparison("best learning rate of SGD", 0.01, best, around(0.01, 0.0)),
            setup.comparison(
                "iterations until SGD is level", 750, levels["SGD"], (375, 1125),
                remark="until the test accuracy, averaged over three measurements, is within 0.01 "
                "of its last",
            ),
            setup.comparison(
                "iterations until momentum is level", 500, levels["momentum"], (0, 750)
            ),
            setup.comparison(
                "each weight on its own, times NumPy at once", 236, times, at_least(100),
                remark="1,263 s and 5.36 s in the study",
            ),
            setup.comparison(
                "flat start: how much further momentum comes", "clearly", flat, at_least(0.1),
                remark=f"share of the way down after {SLICE_STEPS} steps, less that of SGD",
            ),
            setup.comparison(
                "steep start: how much further momentum comes", "little", steep, (-0.1, 0.1)
            ),
        ],
    )  # fmt: skip
    report.table(
        "SGD, test accuracy by learning rate",
        ("learning rate", "test accuracy"),
        [[lr, by_rate[lr]["test_accuracy"]] for lr in rates],
    )
    panels = [
        Panel(
            {part: ([row["samples"] / size for row in r["rows"]], [row[part] for row in r["rows"]])
             for part in ("train", "test")},
            title=title, x="iteration",
        )
        for title, r, size in (
            (f"SGD, learning rate {LEARNING_RATE:g}, batches of {BATCH_SIZE}", plain, BATCH_SIZE),
            (f"momentum {MOMENTUM:g}, learning rate {MOMENTUM_LEARNING_RATE:g}, batches of "
             f"{MOMENTUM_BATCH_SIZE}", with_momentum, MOMENTUM_BATCH_SIZE),
        )
    ]  # fmt: skip
    report.figure("curves", curves(panels), "Learning curves.")
    weights = io.load(f"{plain['folder']}/model.safetensors")["weight"][:, :-1]
    report.figure(
        "weights",
        images([weights.reshape(10, setup.size, setup.size)], signed=True),
        "The ten weight vectors: red is positive, blue negative.",
    )
    report.figure(
        "landscape", figure,
        "The loss over two weights, all others as trained, and the ways of SGD with and without "
        "momentum from a flat and a steep start.",
    )  # fmt: skip
    report.table(
        f"Ten epochs of gradients, batches of {MOMENTUM_BATCH_SIZE} (each weight on its own: timed "
        "on a hundredth of the weights of one batch, and scaled)",
        ("how", "seconds", "times native"),
        [[how, taken, taken / seconds["native"]] for how, taken in seconds.items()],
    )
    report.result = {
        "gradient_error": error, "best_lr": best, "seconds": seconds, "times": times,
    }  # fmt: skip
    return report


def _gallery(setup: Setup) -> Any:
    pictures, labels = setup.train
    rows = [pictures[labels == label][:10, 0] for label in range(len(setup.dataset.classes))]
    return images(rows, setup.dataset.classes)


def _level(rows: list[dict[str, float]], batch_size: int) -> float:
    """The iteration from which on the smoothed test accuracy stays within 0.01 of its last."""
    accuracy = np.convolve([row["test"] for row in rows], np.ones(3) / 3, mode="valid")
    outside = np.flatnonzero(np.abs(accuracy - accuracy[-1]) > 0.01)
    place = int(outside[-1]) + 1 if outside.size else 0
    return rows[min(place + 1, len(rows) - 1)]["samples"] / batch_size


def _landscape(setup: Setup, folder: str, inputs: int) -> tuple[float, float, Any]:
    """How much further momentum comes than SGD, from a flat and from a steep start among the points
    around the trained one that lie clearly above the lowest loss."""
    count = 500 if setup.quick else 2000
    x = with_one(setup.dataset.train_images[:count], "float64")
    y = setup.dataset.train_labels[:count]
    weights = io.load(f"{folder}/model.safetensors")["weight"].astype(np.float64)
    size = setup.size
    middle = size // 2
    places = ((0, middle * size + middle), (1, (middle - 2) * size + middle - 2))
    trained = np.array([weights[place] for place in places])
    logits = x @ weights.T

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved = logits.copy()
        for (unit, pixel), new, old in zip(places, point, trained, strict=True):
            moved[:, unit] += x[:, pixel] * (new - old)
        value, gradient = ops.cross_entropy(moved, y, return_grad=True)
        slope = [gradient[:, unit] @ x[:, pixel] for unit, pixel in places]
        return float(value), np.array(slope)

    span = np.linspace(-12, 12, 25 if setup.quick else 49)
    grid_x, grid_y = trained[0] + span, trained[1] + span
    surface = loss_slice(loss, grid_x, grid_y)
    lowest = float(surface.min())
    around = [
        trained + 10.0 * np.array(direction)
        for direction in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
    ]
    steepness = [float(np.linalg.norm(loss(point)[1])) for point in around]
    high = [loss(point)[0] > lowest + 0.1 * (surface.max() - lowest) for point in around]
    order = sorted((i for i in range(len(around)) if high[i]), key=steepness.__getitem__)
    panels, ahead = [], {}
    for name, start in (("flat", around[order[0]]), ("steep", around[order[-1]])):
        paths, shares = {}, {}
        for how, momentum in (("SGD", 0.0), ("momentum", MOMENTUM)):
            points, losses = trajectory(
                loss, start, lr=SLICE_RATE, steps=SLICE_STEPS, momentum=momentum
            )
            paths[how] = points[:, 0], points[:, 1]
            shares[how] = (losses[0] - losses[-1]) / (losses[0] - lowest)
        ahead[name] = float(shares["momentum"] - shares["SGD"])
        panels.append(Contour(grid_x, grid_y, surface, paths, title=f"{name} start"))
    return ahead["flat"], ahead["steep"], contours(panels)
