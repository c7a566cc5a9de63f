"""Study 4a to 4d: how a perceptron's initial weights decide what it learns, and its gradient
checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pynn
from pynn import init, io, nn, ops, optim
from pynn.data import Batches, split_last
from pynn.errors import NonFiniteError
from pynn.experiments.setup import Setup, Study, around, within_factor
from pynn.report import Comparison, Panel, Report, curves
from pynn.testing.step_sizes import difference_errors
from pynn.train.callbacks import Callback, Run
from pynn.train.measuring import clipped_cross_entropy
from pynn.train.settings import Setting, log_uniform, random_settings
from pynn.train.sweep import Result, SweepRun

RAW = ("zeros", "normal", "Glorot")  # 4a
# 4b: two settings, and their published validation accuracies.
GOOD: tuple[Setting, ...] = (
    {"init": "Glorot", "first": 600, "second": 250, "lr": 0.14, "decay": 1e-3},
    {"init": "small", "first": 512, "second": 512, "lr": 0.1, "decay": 0.0},
)
PUBLISHED_GOOD = (0.9712, 0.9738)
# 4d: losses on the training set after epochs 1 to 10.
PUBLISHED_SCALED = {
    "zeros": tuple(2.302582 - 2.7e-6 * epoch for epoch in range(10)),
    "normal": (2.06, 1.64, 1.38, 1.21, 1.12, 1.02, 0.90, 0.84, 0.82, 0.77),
    "Glorot": (1.93, 1.57, 1.24, 0.99, 0.83, 0.72, 0.65, 0.59, 0.55, 0.52),
}
WEIGHTS = {
    "zeros": init.zeros,
    "normal": init.normal(0, 1),
    "Glorot": init.glorot_uniform(),
    "small": init.normal(0, 0.001),
}
GUESSING = float(np.log(10))  # the loss of equal probabilities
FLOOR = 1e-6  # of a probability, in the loss that 4d reports
# The study's go up to 5e5; where rounding is to be seen after training, two more.
STEPS = (*range(1, 25), *(factor * 10**power for power in range(7) for factor in (1, 5)))


def network(
    inputs: int, first: int, second: int, initialiser: str, dtype: str = "float32"
) -> nn.Sequential:
    """Two hidden layers of ReLU; biases 0."""

    def linear(before: int, after: int) -> nn.Linear:
        return nn.Linear(
            before, after, weight_init=WEIGHTS[initialiser], bias_init="zeros", dtype=dtype
        )

    return nn.Sequential(
        nn.Flatten(), linear(inputs, first), nn.ReLU(), linear(first, second), nn.ReLU(),
        linear(second, 10),
    )  # fmt: skip


def train_raw(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """4a and 4b: pixels from 0 to 255, batches in order, and the gradient divided by the batch size
    twice: the nominal learning rate acts as so many times less. Weight decay acts at the nominal
    rate, on weights alone."""
    images, labels = run.data.train_images, run.data.train_labels
    kept, held_out = split_last(len(labels), setting["held_out"])
    dtype = "float64" if setting["init"] == "normal" else "float32"  # float32 cannot hold its loss
    size = setting["batch_size"]
    model = network(images[0].size, setting["first"], setting["second"], setting["init"], dtype)
    io.save(run.folder / "initial.safetensors", model.state_dict())
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    optimizer = optim.SGD(
        [{"params": weights, "weight_decay": setting["decay"] * size}, {"params": biases}],
        lr=setting["lr"] / size,
    )

    def batches(rows: NDArray[np.int64], batch_size: int) -> Batches:
        return Batches(
            images[rows],
            labels[rows],
            batch_size,
            shuffle=False,
            scale=1.0,
            dtype=dtype,
            reuse=True,
        )

    diverged = None
    try:
        history = pynn.fit(
            model, nn.CrossEntropyLoss(), optimizer, batches(kept, size),
            valid=batches(held_out, 500), epochs=setting["epochs"], callbacks=[run.callback()],
            progress=False,
        )  # fmt: skip
    except NonFiniteError as error:
        diverged, history = str(error), error.history
    io.save(run.folder / "model.safetensors", model.state_dict())
    again = network(images[0].size, setting["first"], setting["second"], setting["init"], dtype)
    again.load_state_dict(io.load(run.folder / "model.safetensors"))
    test = Batches(
        run.data.test_images, run.data.test_labels, 500, shuffle=False, scale=1.0, dtype=dtype
    )
    rows = list(history) if history is not None else []
    return {
        "rows": rows,
        "diverged": diverged,
        "valid_accuracy": rows[-1]["valid_accuracy"] if rows else float("nan"),
        "test_accuracy_reloaded": pynn.evaluate(again, nn.CrossEntropyLoss(), test)["accuracy"],
    }


class ClippedLoss(Callback):
    """The loss on all training data after each epoch, probabilities clipped.

    Attributes:
        losses: one for each epoch.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[Any]) -> None:
        self.images, self.labels = images, labels
        self.losses: list[float] = []

    def on_epoch_end(self, run: Run) -> None:
        """Measure."""
        self.losses.append(clipped_cross_entropy(run.model, self.images, self.labels, FLOOR))


def train_scaled(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """4d: pixels in [0, 1]; bias gradients divided by the batch size once more than those of
    weights."""
    images, labels = run.data.train_images, run.data.train_labels
    kept, _ = split_last(len(labels), setting["held_out"])
    size = setting["batch_size"]
    model = network(images[0].size, 500, 400, setting["init"])
    named = list(model.named_parameters())
    optimizer = optim.SGD(
        [
            {"params": [p for name, p in named if name.endswith("weight")]},
            {
                "params": [p for name, p in named if name.endswith("bias")],
                "lr": setting["lr"] / size,
            },
        ],
        lr=setting["lr"],
    )
    clipped = ClippedLoss(images[kept], labels[kept])
    pynn.fit(
        model, nn.CrossEntropyLoss(), optimizer,
        Batches(images[kept], labels[kept], size, seed=run.seed, reuse=True),
        epochs=setting["epochs"], callbacks=[clipped, run.callback()], progress=False,
    )  # fmt: skip
    return {"losses": clipped.losses, "parameters": sum(p.size for p in model.parameters())}


def gradient_errors(setup: Setup, path: str, dtype: str, steps: Sequence[int]) -> list[float]:
    """4c: ten weights of layer 2, of units that are active for one sample into the first one that
    is; the largest difference of central differences to backpropagation, with step 1 / N for each
    N. Of the last 500 samples it is the one that the network is least sure of: where it is sure,
    the loss is a straight line, and every step is as good."""
    tensors = io.load(path)
    pixels = setup.size**2
    first, second = len(tensors["1.bias"]), len(tensors["3.bias"])
    model = network(pixels, first, second, "zeros", dtype)
    model.load_state_dict({name: array.astype(dtype) for name, array in tensors.items()})
    images, labels = setup.dataset.train_images[-500:], setup.dataset.train_labels[-500:]
    losses = ops.cross_entropy(model.eval()(images), labels, reduction="none")
    sample = int(np.argmin(np.abs(np.exp(-losses) - 0.5)))
    x, y = images[sample : sample + 1].astype(dtype), labels[sample : sample + 1]
    hidden = [ops.flatten(x)]
    for layer in (model[1], model[3], model[5]):
        hidden.append(ops.linear(ops.relu(hidden[-1]), layer.weight.data, layer.bias.data))
    _, slope = ops.cross_entropy(hidden[3], y, return_grad=True)
    slope = ops.relu_backward(slope @ model[5].weight.data, ops.relu(hidden[2]))
    gradient = slope.T @ ops.relu(hidden[1])
    unit = int(np.argmax(hidden[2][0] > 0))
    weights = model[3].weight.data

    def loss() -> float:
        z = ops.linear(ops.relu(hidden[1]), weights, model[3].bias.data)
        z = ops.linear(ops.relu(z), model[5].weight.data, model[5].bias.data)
        return float(ops.cross_entropy(z, y))

    places = unit * first + np.flatnonzero(hidden[1][0] > 0)[:10]
    return difference_errors(loss, weights, gradient, [1 / n for n in steps], places.tolist())


def run(setup: Setup) -> Study:
    """All four parts."""
    quick = setup.quick
    epochs = setup.epochs or (2 if quick else 10)
    shared: Setting = {"epochs": epochs, "held_out": setup.held_out(12_000)}
    units = 128 if quick else 512
    raw: list[Setting] = [
        {
            "init": name, "first": units, "second": units, "lr": 0.1, "decay": 0.0,
            "batch_size": 100, **shared,
        }
        for name in RAW
    ]  # fmt: skip
    good: list[Setting] = [{**setting, "batch_size": 50, **shared} for setting in GOOD]
    drawn = random_settings(
        {"lr": log_uniform(1e-2, 1), "decay": log_uniform(1e-5, 1)}, 2 if quick else 8,
        seed=setup.seed,
    )  # fmt: skip
    searched = [{**good[0], **setting, "epochs": min(3, epochs)} for setting in drawn]
    scaled = [
        {
            "init": name, "lr": 7e-4, "batch_size": 64, "epochs": epochs,
            "held_out": setup.held_out(10_000),
        }
        for name in PUBLISHED_SCALED
    ]  # fmt: skip
    on_raw, on_scaled = yield [
        setup.sweep(train_raw, raw + good + searched, monitor="valid_accuracy"),
        setup.sweep(train_scaled, scaled),
    ]
    of_raw = dict(zip(RAW, on_raw, strict=False))
    of_good = on_raw[len(raw) : len(raw) + len(good)]
    of_search = on_raw[len(raw) + len(good) :]
    of_scaled = dict(zip(PUBLISHED_SCALED, on_scaled, strict=True))

    report = setup.report(
        "initialisation", "Initial weights of a perceptron", epochs=epochs,
        **{
            "4a": f"{units} and {units} units, learning rate {raw[0]['lr']:g}, batches of "
            f"{raw[0]['batch_size']} in order, {shared['held_out']} images held out, biases 0",
            "4b": f"the same with batches of {good[0]['batch_size']}",
            "4d": f"500 and 400 units, learning rate {scaled[0]['lr']:g}, batches of "
            f"{scaled[0]['batch_size']}, {scaled[0]['held_out']} images held out, probabilities "
            f"clipped at {FLOOR:g} in the loss that is reported",
        },
        ours={
            "4a, tolerance of the validation loss": "of Glorot a quarter; huge: ten times that of "
            "guessing",
            "4b, random search": f"{len(drawn)} settings",
            "4c, the sample": "of the last 500 training images the one that the network is least "
            "sure of",
        },
    )  # fmt: skip
    report.compare("4a: raw pixels, gradient divided by the batch size twice",
                   _raw_rows(setup, of_raw))  # fmt: skip
    for name, result in of_raw.items():
        report.table(
            f"4a: {name}" + (f", diverged: {result['diverged']}" if result["diverged"] else ""),
            ("epoch", "train loss", "train accuracy", "validation loss", "validation accuracy"),
            [
                [int(row["epoch"]), row["train_loss"], row["train_accuracy"], row["valid_loss"],
                 row["valid_accuracy"]]
                for row in result["rows"]
            ],
        )  # fmt: skip
        if result["rows"]:
            report.figure(f"raw-{name}", _history(result["rows"]), f"4a: {name}.")
    report.compare(
        "4b: two settings that learn, raw pixels",
        [
            setup.comparison(
                f"{s['init']}, {s['first']} and {s['second']} units, validation accuracy",
                published,
                r["valid_accuracy"],
                around(published, 0.006),
                remark=f"saved and loaded: test accuracy {r['test_accuracy_reloaded']:.4f}",
            )
            for s, r, published in zip(GOOD, of_good, PUBLISHED_GOOD, strict=True)
        ],
    )
    report.table(
        "4b: random search, three epochs",
        ("learning rate", "weight decay", "validation accuracy", "what became of it"),
        [
            [s["lr"], s["decay"], r["valid_accuracy"], r["diverged"] or "trained"]
            for s, r in zip(searched, of_search, strict=True)
        ],
    )
    _check_gradients(setup, report, of_raw["Glorot"]["folder"])
    report.compare("4d: pixels in [0, 1], loss on the training set", _scaled_rows(setup, of_scaled))
    lines = {
        name: (np.arange(1, len(r["losses"]) + 1), r["losses"]) for name, r in of_scaled.items()
    }
    report.figure(
        "scaled", curves([Panel(lines, y="cross-entropy (nats)")]), "4d: three initial weights."
    )
    report.result = {
        "valid_accuracy": {name: result["valid_accuracy"] for name, result in of_raw.items()}
    }
    return report


def _raw_rows(setup: Setup, results: dict[str, Result]) -> list[Comparison]:
    def value(initialiser: str, epoch: int, name: str) -> float:
        rows = results[initialiser]["rows"]
        return float(rows[epoch][name]) if rows else float("nan")

    def remark(initialiser: str) -> str:
        diverged = results[initialiser]["diverged"]
        return f"diverged: {diverged}" if diverged else ""

    infinity = float("inf")
    cells: list[tuple[str, int, str, float | str, tuple[float, float]]] = [
        ("Glorot", 0, "train_loss", 3.3, within_factor(3.3, 2)),
        ("Glorot", -1, "train_loss", 0.0037, within_factor(0.0037, 2)),
        ("Glorot", -1, "valid_loss", 0.450, within_factor(0.450, 1.25)),
        ("Glorot", -1, "valid_accuracy", 0.945, around(0.945, 0.01)),
        ("zeros", -1, "train_loss", 2.3016, around(2.3016, 0.002)),
        ("zeros", -1, "valid_loss", 2.3020, around(2.3020, 0.002)),
        ("zeros", -1, "valid_accuracy", 0.1060, around(0.1060, 0.0005)),
        ("normal", 0, "train_loss", "> 1e40", (1e40, infinity)),
        ("normal", -1, "train_loss", 2.30, around(2.30, 0.02)),
        ("normal", -1, "valid_loss", "huge", (10 * GUESSING, infinity)),
        ("normal", -1, "valid_accuracy", 0.106, around(0.106, 0.01)),
    ]
    return [
        setup.comparison(
            f"{initialiser}, {name.replace('_', ' ')}" + (" of epoch 1" if epoch == 0 else ""),
            published, value(initialiser, epoch, name), bounds, remark=remark(initialiser),
        )
        for initialiser, epoch, name, published, bounds in cells
    ]  # fmt: skip


def _scaled_rows(setup: Setup, results: dict[str, Result]) -> list[Comparison]:
    def bounds(name: str, value: float) -> tuple[float, float]:
        if name == "normal":
            return within_factor(value, 1.5)
        return around(value, 1e-5 if name == "zeros" else 0.1)

    return [
        setup.comparison(f"{name}, epoch {epoch}", value, ours, bounds(name, value))
        for name, published in PUBLISHED_SCALED.items()
        for epoch, (value, ours) in enumerate(
            zip(published, results[name]["losses"], strict=False), 1
        )
    ]


def _check_gradients(setup: Setup, report: Report, folder: str) -> None:
    small, all_steps = STEPS[:24], STEPS[24:]
    panels, rows = [], []
    for when, file in (("at initialisation", "initial"), ("after training", "model")):
        found = {
            dtype: gradient_errors(setup, f"{folder}/{file}.safetensors", dtype, STEPS)
            for dtype in ("float64", "float32")
        }
        panels += [
            Panel({d: (small, e[:24]) for d, e in found.items()}, title=when, x="N, step 1 / N",
                  y="largest difference", log="y"),
            Panel({d: (all_steps, e[24:]) for d, e in found.items()}, title=when,
                  x="N, step 1 / N", y="largest difference", log="xy"),
        ]  # fmt: skip
        lowest = {dtype: STEPS[int(np.argmin(errors))] for dtype, errors in found.items()}
        rows += [
            setup.comparison(
                f"{dtype} {when}: N of the least difference",
                published,
                lowest[dtype],
                bounds,
                remark=_met(found[dtype], dtype),
            )
            for dtype, published, bounds in (
                ("float64", "about 300", (100.0, 1e5)),
                ("float32", None, (1.0, 1000.0)),
            )
        ]
    report.compare("4c: central differences with step 1 / N against backpropagation", rows)
    report.figure(
        "steps", curves(panels), "4c: falls with the step, and rises again from rounding."
    )


def _met(errors: Sequence[float], dtype: str) -> str:
    """Where the least difference is, and where it must be: what the differences leave out falls as
    c / N^2, and rounding, of half a last digit of a loss of ln 2, grows with N."""
    at = 100
    c = errors[STEPS.index(at, 24)] * at**2
    rounding = float(np.finfo(dtype).eps) / 2 * float(np.log(2))
    meet = (2 * c / rounding) ** (1 / 3)
    return (
        f"difference {min(errors):.2g}; measured at N = {at} it is {c:.2g} / N^2, which meets the "
        f"rounding of {dtype} at N = {meet:.1g}"
    )


def _history(rows: list[dict[str, float]]) -> Any:
    epochs = [row["epoch"] for row in rows]
    return curves([
        Panel(
            {part: (epochs, [row[f"{part}_{quantity}"] for row in rows])
             for part in ("train", "valid")},
            y=unit, log="y" if quantity == "loss" else "",
        )
        for quantity, unit in (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (share)"))
    ])  # fmt: skip
