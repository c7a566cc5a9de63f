"""Study 2a to 2f: softmax regression, learning rates and momentum, and what a gradient costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pynn
from pynn import init, io, nn, ops, optim
from pynn.data import Batches
from pynn.experiments.setup import Setup, Study, around, at_least, within_factor
from pynn.report import Contour, Panel, contours, curves, images
from pynn.testing import gradcheck
from pynn.testing.one_weight import descend_one_by_one
from pynn.train.landscape import LossSlice
from pynn.train.measuring import AccuracyEvery
from pynn.train.settings import Setting
from pynn.train.sweep import SweepRun

RATES = tuple(round(0.01 * i, 2) for i in range(10))
MOMENTUM = 0.9
LOSS = nn.CrossEntropyLoss(reduction="sum")
# Not published with the study, so ours: the batch size without momentum, the learning rate with it
# (a velocity sums ten gradients), how long training goes on, and the descent over two weights.
BATCH_SIZE, MOMENTUM_BATCH_SIZE = 50, 128
LEARNING_RATE, MOMENTUM_LEARNING_RATE = 0.01, 0.001
ITERATIONS, MEASUREMENTS, RATE_MEASUREMENTS = 1500, 150, 30
LEVEL, LEVEL_ITERATIONS = 0.005, 100  # level: this close to the end, on average over so many
SLICE_CLASS, SLICE_REACH, SLICE_RATE, SLICE_STEPS = 3, 8.0, 5.0, 30
STEP = 1e-3  # of the gradient check


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
        LOSS,
        optim.SGD(model.parameters(), lr=setting["lr"], momentum=setting["momentum"]),
        Batches(x, y, setting["batch_size"], seed=run.seed, drop_last=True, reuse=True),
        epochs=setting["epochs"],
        callbacks=[accuracy, run.callback()],
        progress=False,
    )
    io.save(run.folder / "model.safetensors", model.state_dict())
    last_quarter = accuracy.rows[-len(accuracy.rows) // 4 :]
    return {
        "rows": accuracy.rows,
        "test_accuracy": float(np.mean([row["test"] for row in last_quarter])),
    }


def check_gradient(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """The largest error of the derivatives of some images' loss by each weight on its own, relative
    to that derivative, against central differences over four points, in float64."""
    count = setting["images"]
    x, y = with_one(run.data.train_images[:count]), run.data.train_labels[:count]
    checked = gradcheck(
        network(x.shape[1]), x, check_inputs=False, max_elements=None, order=4, eps=STEP,
        loss=lambda logits: ops.cross_entropy(logits, y, reduction="none", return_grad=True),
        raise_error=False,
    )  # fmt: skip
    return {"error": checked.own_error}


def cost_of_gradients(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """Seconds for ten epochs of updates: of each weight on its own, by NumPy, and native."""
    x, y = with_one(run.data.train_images), run.data.train_labels
    batch_size: int = setting["batch_size"]
    model = network(x.shape[1])
    size = model.weight.size
    places = list(np.ndindex(model.weight.shape))[:: size // 100]
    batch = x[:batch_size], y[:batch_size]
    batches = 10 * (len(y) // batch_size)
    some = min(50, batches // 10)
    order = np.random.default_rng(run.seed).permutation(len(y))[: some * batch_size]

    def one_by_one() -> None:
        with pynn.backend("numpy"):
            descend_one_by_one(model, LOSS, *batch, places, lr=MOMENTUM_LEARNING_RATE)

    def at_once(backend: str) -> float:
        model = network(x.shape[1])
        step = pynn.compile(model, LOSS, optim.SGD(model.parameters(), lr=MOMENTUM_LEARNING_RATE))

        def epoch() -> None:
            step.epoch(x, y, order, batch_size=batch_size)

        with pynn.backend(backend):
            return _seconds(epoch) / some * batches

    costs = {
        "each weight on its own": _seconds(one_by_one) / len(places) * size * batches,
        "NumPy": at_once("numpy"),
        "native": at_once("native"),
    }
    return {"costs": costs}


def _seconds(function: Callable[[], None]) -> float:
    """The median of five calls, after one that warms up."""
    function()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return sorted(times)[2]


def run(setup: Setup) -> Study:
    """The six parts, in order."""
    rates = RATES[::3] if setup.quick else RATES
    enough = ITERATIONS // 5 if setup.quick else ITERATIONS

    def setting(lr: float, momentum: float, batch_size: int, measurements: int) -> Setting:
        batches = len(setup.dataset.train_labels) // batch_size
        epochs = setup.epochs or -(-enough // batches)
        return {
            "lr": lr, "momentum": momentum, "batch_size": batch_size, "epochs": epochs,
            "measure_every": max(1, epochs * batches // measurements),
        }  # fmt: skip

    chosen = [setting(lr, 0.0, BATCH_SIZE, RATE_MEASUREMENTS) for lr in rates]
    chosen.append(setting(MOMENTUM_LEARNING_RATE, MOMENTUM, MOMENTUM_BATCH_SIZE, MEASUREMENTS))
    chosen.append(setting(LEARNING_RATE, 0.0, BATCH_SIZE, MEASUREMENTS))
    checks: list[Setting] = [{"images": 20 if setup.quick else 200}]
    costs: list[Setting] = [{"batch_size": MOMENTUM_BATCH_SIZE}]
    results, [check], [timed] = yield [
        setup.sweep(train, chosen, monitor="test_accuracy"),
        setup.sweep(check_gradient, checks),
        setup.sweep(cost_of_gradients, costs, first=True),
    ]
    by_rate = dict(zip(rates, results, strict=False))
    with_momentum, plain = results[-2], results[-1]

    report = setup.report(
        "momentum", "Softmax regression: learning rates, momentum, gradients",
        loss="cross-entropy summed over the batch", momentum=MOMENTUM,
        batch_size_with_momentum=MOMENTUM_BATCH_SIZE,
        ours={
            "batch_size": BATCH_SIZE,
            "learning_rate": f"of the curves {LEARNING_RATE:g}, with momentum "
            f"{MOMENTUM_LEARNING_RATE:g}",
            "epochs": f"{chosen[-1]['epochs']}, with momentum {chosen[-2]['epochs']}: at least "
            f"{enough} iterations",
            "level": f"within {LEVEL:g} of the last quarter, over {LEVEL_ITERATIONS} iterations",
            "landscape": f"weights of class {SLICE_CLASS} within {SLICE_REACH:g} of the trained "
            f"ones, {SLICE_STEPS} steps of learning rate {SLICE_RATE:g}",
            "gradient_check": f"four points, step {STEP:g}",
        },
    )  # fmt: skip
    report.figure("gallery", _gallery(setup), "Ten samples of each class.")
    error, seconds = check["error"], timed["costs"]
    best = max(rates, key=lambda lr: float(by_rate[lr]["test_accuracy"]))
    times = seconds["each weight on its own"] / seconds["NumPy"]
    flat, steep, figure = _landscape(setup, plain["folder"])
    report.compare(
        "Beside the published values",
        [
            setup.comparison(
                "gradient check, largest relative error", "< 1e-7", error, (0, 1e-7),
                remark=f"of a weight, relative to its own derivative; step {STEP:g}",
            ),
            setup.comparison("best learning rate of SGD", 0.01, best, around(0.01, 0.0)),
            setup.comparison(
                "iterations until SGD is level", 750, _level(plain["rows"], BATCH_SIZE),
                within_factor(750, 1.5),
                remark=f"until the test accuracy of {LEVEL_ITERATIONS} iterations is within "
                f"{LEVEL:g} of that of the last quarter",
            ),
            setup.comparison(
                "iterations until momentum is level", 500,
                _level(with_momentum["rows"], MOMENTUM_BATCH_SIZE), within_factor(500, 1.5),
            ),
            setup.comparison(
                "each weight on its own, times NumPy at once", 236, times, at_least(236),
                remark="1,263 s and 5.36 s in the study",
            ),
            setup.comparison(
                "flat start: how much further momentum comes", "clearly", flat, at_least(0.25),
                remark=f"share of the way down after {SLICE_STEPS} steps, less that of SGD",
            ),
            setup.comparison(
                "steep start: how much further momentum comes", "little", steep, (-0.05, 0.05)
            ),
        ],
    )  # fmt: skip
    report.table(
        "SGD, test accuracy by learning rate",
        ("learning rate", "test accuracy"),
        [[lr, by_rate[lr]["test_accuracy"]] for lr in rates],
    )
    seen = [row[part] for r in (plain, with_momentum) for row in r["rows"]
            for part in ("train", "test")]  # fmt: skip
    limits = float(np.quantile(seen, 0.02)) - 0.02, max(seen) + 0.01
    panels = [
        Panel(
            {part: ([row["samples"] / size for row in r["rows"]], [row[part] for row in r["rows"]])
             for part in ("train", "test")},
            title=title, x="iteration", limits=limits,
        )
        for title, r, size in (
            (f"SGD, rate {LEARNING_RATE:g}, batches of {BATCH_SIZE}", plain, BATCH_SIZE),
            (f"momentum {MOMENTUM:g}, rate {MOMENTUM_LEARNING_RATE:g}, batches of "
             f"{MOMENTUM_BATCH_SIZE}", with_momentum, MOMENTUM_BATCH_SIZE),
        )
    ]  # fmt: skip
    report.figure(
        "curves", curves(panels), "Learning curves; the first few measurements may lie below."
    )
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
        "on a hundredth of the weights of one batch, the others on 50 batches, and scaled)",
        ("how", "seconds", "times native"),
        [[how, taken, taken / seconds["native"]] for how, taken in seconds.items()],
    )
    report.result = {
        "gradient_error": error, "best_lr": best, "gradient_seconds": seconds, "times": times,
    }  # fmt: skip
    return report


def _gallery(setup: Setup) -> Any:
    pictures, labels = setup.train
    rows = [pictures[labels == label][:10, 0] for label in range(len(setup.dataset.classes))]
    return images(rows, setup.dataset.classes)


def _level(rows: list[dict[str, float]], batch_size: int) -> float:
    """The iteration at which the test accuracy, averaged over LEVEL_ITERATIONS, first comes as
    close as LEVEL to its average over the last quarter of training."""
    accuracy = np.array([row["test"] for row in rows])
    iterations = [row["samples"] / batch_size for row in rows]
    quarter = max(1, len(rows) // 4)
    window = int(np.clip(LEVEL_ITERATIONS // iterations[0], 1, quarter))
    smooth = np.convolve(accuracy, np.full(window, 1 / window), mode="valid")
    reached = np.flatnonzero(smooth >= accuracy[-quarter:].mean() - LEVEL)
    return iterations[int(reached[0]) + window - 1]


def _landscape(setup: Setup, folder: str) -> tuple[float, float, Any]:
    """How much further momentum comes than SGD, from a flat and from a steep start halfway between
    the trained weights and the border of the picture: two weights of one class."""
    count = 500 if setup.quick else 2000
    x, y = with_one(setup.dataset.train_images[:count]), setup.dataset.train_labels[:count]
    model = network(x.shape[1])
    model.load_state_dict(io.load(f"{folder}/model.safetensors"))
    middle = setup.size // 2
    pixels = (middle, middle - 2), (middle, middle + 1)
    loss = LossSlice(
        model, nn.CrossEntropyLoss(), x, y,
        [("weight", (SLICE_CLASS, row * setup.size + column)) for row, column in pixels],
    )  # fmt: skip
    steps = np.arange(-16, 17)
    grid_x, grid_y = (value + steps * SLICE_REACH / 16 for value in loss.origin)
    surface = loss.values(grid_x, grid_y)
    slope = np.hypot(*np.gradient(surface, grid_y, grid_x))
    slope[np.maximum.outer(abs(steps), abs(steps)) != 8] = np.nan
    names = f"weight of pixel {pixels[0]}", f"weight of pixel {pixels[1]}"
    panels, ahead = [], {}
    for name, place in (("flat", np.nanargmin(slope)), ("steep", np.nanargmax(slope))):
        row, column = np.unravel_index(place, slope.shape)
        start = grid_x[column], grid_y[row]
        found = {
            "SGD": loss.trajectory(start, lambda p: optim.SGD(p, lr=SLICE_RATE), SLICE_STEPS),
            "momentum": loss.trajectory(
                start, lambda p: optim.SGD(p, lr=SLICE_RATE, momentum=MOMENTUM), SLICE_STEPS
            ),
        }
        lowest = min(surface.min(), *(path.losses.min() for path in found.values()))
        down = {how: (path.losses[0] - path.losses[-1]) / (path.losses[0] - lowest)
                for how, path in found.items()}  # fmt: skip
        ahead[name] = float(down["momentum"] - down["SGD"])
        paths = {how: (path.points[:, 0], path.points[:, 1]) for how, path in found.items()}
        panels.append(Contour(grid_x, grid_y, surface, paths, title=f"{name} start", names=names))
    return ahead["flat"], ahead["steep"], contours(panels)
