"""Study 3: four networks, from softmax regression to convolution, each at three settings."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

import pynn
from pynn import init, nn, ops, optim
from pynn.data import Batches, split_first
from pynn.errors import NonFiniteError
from pynn.experiments.setup import Setup, Study, around
from pynn.report import Comparison, Panel, curves
from pynn.train.measuring import AccuracyEvery, Divergence
from pynn.train.settings import Setting
from pynn.train.sweep import Result, SweepRun

# Of each network: epochs, learning rate, published test accuracy, and what counts as reproduced.
SETTINGS: dict[int, list[tuple[int, float, float, tuple[float, float]]]] = {
    1: [
        (5, 1e-4, 0.2086, (0.1, 0.45)),
        (5, 5e-3, 0.8766, around(0.8766, 0.01)),
        (5, 0.1, 0.9180, around(0.9180, 0.01)),
    ],
    2: [
        (15, 1e-4, 0.4102, (0.2, 0.6)),
        (15, 5e-3, 0.9148, around(0.9148, 0.01)),
        (15, 0.1, 0.9608, around(0.9608, 0.01)),
    ],
    3: [
        (5, 3e-3, 0.8507, around(0.8507, 0.02)),
        (40, 3e-3, 0.9344, around(0.9344, 0.01)),
        (40, 0.05, 0.9703, around(0.9703, 0.01)),
    ],
    4: [
        (5, 1e-2, 0.0980, (0.0, 0.2)),
        (10, 1e-3, 0.9816, around(0.9816, 0.01)),
        (20, 1e-3, 0.9839, around(0.9839, 0.01)),
    ],
}
DIVERGES = (4, 0)  # the setting whose published run overflowed
BATCH_SIZE = 100


def network(number: int, size: int) -> nn.Sequential:
    """One of the four, for ten classes of images of size x size."""

    def linear(before: int, after: int, bias: tuple[float, float] | None = None) -> nn.Linear:
        bound = math.sqrt(3 / after)
        low, high = bias or (-bound, bound)
        return nn.Linear(
            before, after, weight_init="glorot_uniform", bias_init=init.uniform(low, high)
        )

    def conv(before: int, after: int, a: float) -> nn.Conv2d:
        bound = math.sqrt(3 / after)
        return nn.Conv2d(
            before, after, 3, padding="same", weight_init=init.uniform(-a, a),
            bias_init=init.uniform(-bound, bound),
        )  # fmt: skip

    pixels = size * size
    if number == 1:
        return nn.Sequential(nn.Flatten(), linear(pixels, 10))
    if number == 2:
        return nn.Sequential(nn.Flatten(), linear(pixels, 32), nn.ReLU(), linear(32, 10))
    if number == 3:
        return nn.Sequential(
            nn.Flatten(), linear(pixels, 32), nn.ReLU(), linear(32, 32), nn.ReLU(), linear(32, 10)
        )
    return nn.Sequential(
        conv(1, 8, math.sqrt(6 / 80)), nn.MaxPool2d(2),
        conv(8, 8, math.sqrt(6 / 584)), nn.MaxPool2d(2),
        nn.Flatten(), linear(pixels // 2, 32), nn.ReLU(),
        linear(32, 10, (-math.sqrt(3 / 32), math.sqrt(3 / 10))),
    )  # fmt: skip


def loss_of(number: int) -> nn.CrossEntropyLoss:
    """Networks 1 to 3 divide the gradient by the batch size; network 4 does not."""
    return nn.CrossEntropyLoss(reduction="sum" if number == 4 else "mean")


def train(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """One network at one setting: plain SGD on shuffled batches, measured as it goes."""
    dataset, number = run.data, setting["network"]
    kept, held_out = split_first(len(dataset.train_labels), setting["held_out"])
    x, y = dataset.train_images[kept], dataset.train_labels[kept]
    fifth = len(y) // 5
    model = network(number, x.shape[-1])
    accuracy = AccuracyEvery(
        setting["measure_every"],
        {"train": (x[:fifth], y[:fifth]), "test": (dataset.test_images, dataset.test_labels)},
    )
    divergence = Divergence()
    message = None
    try:
        pynn.fit(
            model,
            loss_of(number),
            optim.SGD(model.parameters(), lr=setting["lr"]),
            Batches(x, y, BATCH_SIZE, seed=run.seed, reuse=True),
            epochs=setting["epochs"],
            callbacks=[accuracy, divergence, run.callback()],
            progress=False,
        )
        message = divergence.message
    except NonFiniteError as error:
        message = str(error)
    valid = Batches(
        dataset.train_images[held_out], dataset.train_labels[held_out], 500, shuffle=False
    )
    rows = accuracy.rows
    return {
        "rows": rows,
        "test_accuracy": rows[-1]["test"] if rows else float("nan"),
        "train_accuracy": rows[-1]["train"] if rows else float("nan"),
        "valid_accuracy": pynn.evaluate(model, nn.CrossEntropyLoss(), valid)["accuracy"],
        "diverged": message,
    }


def run(setup: Setup) -> Study:
    """All networks at all settings."""
    chosen, published = [], []
    for number, of_network in SETTINGS.items():
        for index, (epochs, lr, accuracy, bounds) in enumerate(of_network):
            chosen.append({
                "network": number, "lr": lr, "setting": index + 1,
                "epochs": setup.epochs or (min(epochs, 2) if setup.quick else epochs),
                "held_out": setup.held_out(5000),
                "measure_every": 20_000 if setup.size == 28 else 500,
            })  # fmt: skip
            published.append((accuracy, bounds))
    results, [convolutions], beside = yield [
        setup.sweep(
            train, chosen, monitor="test_accuracy",
            length=lambda s: s["epochs"] * (6 if s["network"] == 4 else 1),
        ),
        setup.sweep(time_convolutions, [{"size": setup.size // 2}], first=True),
        setup.sweep(train_beside_torch, [{"network": number} for number in SETTINGS], first=True),
    ]  # fmt: skip

    report = setup.report(
        "ladder", "Four networks, three settings each", optimiser="SGD", batch_size=BATCH_SIZE,
        measured=f"every {chosen[0]['measure_every']} training samples",
    )  # fmt: skip
    report.compare(
        "Final test accuracy",
        [
            _compared(setup, setting, result, accuracy, bounds)
            for setting, result, (accuracy, bounds) in zip(chosen, results, published, strict=True)
        ],
    )
    report.table(
        "Fit",
        ("network", "setting", "train", "validation", "test", "what it is"),
        [
            [
                s["network"], s["setting"], r["train_accuracy"], r["valid_accuracy"],
                r["test_accuracy"], _fit(r),
            ]
            for s, r in zip(chosen, results, strict=True)
        ],
    )  # fmt: skip
    panels = [
        _panel(s, r)
        for index in range(3)
        for s, r in zip(chosen, results, strict=True)
        if s["setting"] == index + 1
    ]
    report.figure(
        "curves", curves(panels, columns=4), "A row for each setting, a column for each network."
    )
    report.table(
        "Convolution of network 4 (3 x 3, 8 to 8 channels), one image forward",
        ("how", "milliseconds", "times native"),
        convolutions["rows"],
    )
    if beside[0]["row"]:
        report.table(
            "One epoch beside PyTorch, the same threads",
            ("network", "pynn, s", "PyTorch, s", "times", "pynn test accuracy", "PyTorch's"),
            [each["row"] for each in beside],
        )
    else:
        report.note("PyTorch is not installed: no comparison with a framework.")
    report.result = {
        "test_accuracy": {
            f"{s['network']}/{s['setting']}": r["test_accuracy"]
            for s, r in zip(chosen, results, strict=True)
        }
    }
    return report


def _compared(
    setup: Setup, setting: Setting, result: Result, published: float, bounds: tuple[float, float]
) -> Comparison:
    name = f"network {setting['network']}, {setting['epochs']} epochs at {setting['lr']:g}"
    diverged = result["diverged"]
    if (setting["network"], setting["setting"] - 1) == DIVERGES:
        return Comparison(
            name,
            f"{published}, diverges",
            "diverges" if diverged else result["test_accuracy"],
            remark=diverged or "",
            compared=setup.compared,
            reproduced=diverged is not None,
        )
    remark = f"diverged: {diverged}" if diverged else ""
    return setup.comparison(name, published, result["test_accuracy"], bounds, remark=remark)


def _fit(result: Result) -> str:
    if result["diverged"]:
        return "diverged"
    if result["train_accuracy"] < 0.95:
        return "underfits"
    gap = result["train_accuracy"] - result["test_accuracy"]
    return "overfits" if gap > 0.01 else "fits"


def _panel(setting: Setting, result: Result) -> Panel:
    rows = result["rows"]
    samples = [row["samples"] / 1000 for row in rows]
    return Panel(
        {part: (samples, [row[part] for row in rows]) for part in ("train", "test")},
        title=f"network {setting['network']}, lr {setting['lr']:g}",
        x="training samples (thousands)", limits=(0, 1),
    )  # fmt: skip


def time_convolutions(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """Network 4's second convolution of one image in three ways."""
    rng, size = np.random.default_rng(0), setting["size"]
    x = rng.random((1, 8, size, size), dtype=np.float32)
    w = rng.random((8, 8, 3, 3), dtype=np.float32)

    def loops() -> None:
        padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
        y = np.zeros((8, size, size), np.float32)
        for o in range(8):
            for h in range(size):
                for v in range(size):
                    for c in range(8):
                        for i in range(3):
                            for j in range(3):
                                y[o, h, v] += w[o, c, i, j] * padded[c, h + i, v + j]

    def numpy() -> None:
        with pynn.backend("numpy"):
            ops.conv2d(x, w, padding=1)

    timed = [
        ("nested loops in Python", _seconds(loops, 1)),
        ("NumPy, im2col", _seconds(numpy, 20)),
        ("native", _seconds(lambda: ops.conv2d(x, w, padding=1), 200)),
    ]
    return {"rows": [[name, 1000 * seconds, seconds / timed[-1][1]] for name, seconds in timed]}


def _seconds(function: Any, repeats: int) -> float:
    times = []
    for _ in range(5 if repeats > 1 else 1):
        begin = time.perf_counter()
        for _ in range(repeats):
            function()
        times.append((time.perf_counter() - begin) / repeats)
    return sorted(times)[len(times) // 2]


def train_beside_torch(setting: Setting, run: SweepRun) -> dict[str, Any]:
    """An epoch of a network at its last setting, here and in PyTorch; no row without PyTorch."""
    try:
        import torch
    except ImportError:
        return {"row": []}
    torch.set_num_threads(pynn.get_num_threads())
    dataset, number = run.data, setting["network"]
    x, test = (
        images.astype(np.float32) / 255 for images in (dataset.train_images, dataset.test_images)
    )
    y, labels = dataset.train_labels.astype(np.int64), dataset.test_labels
    lr = SETTINGS[number][-1][1]
    model = network(number, x.shape[-1])
    theirs = _torch_twin(torch, model)
    step = pynn.compile(model, loss_of(number), optim.SGD(model.parameters(), lr=lr))
    begin = time.perf_counter()
    step.epoch(x, y, np.arange(len(y)), batch_size=BATCH_SIZE)
    ours = time.perf_counter() - begin
    loss = torch.nn.CrossEntropyLoss(reduction="sum" if number == 4 else "mean")
    optimizer = torch.optim.SGD(theirs.parameters(), lr=lr)
    begin = time.perf_counter()
    for first in range(0, len(y), BATCH_SIZE):
        batch = slice(first, first + BATCH_SIZE)
        optimizer.zero_grad()
        loss(theirs(torch.from_numpy(x[batch])), torch.from_numpy(y[batch])).backward()
        optimizer.step()
    seconds = time.perf_counter() - begin
    model.eval()
    with torch.no_grad():
        outputs = model(test), theirs(torch.from_numpy(test)).numpy()
    accuracies = [float(np.mean(output.argmax(axis=1) == labels)) for output in outputs]
    return {"row": [number, ours, seconds, seconds / ours, *accuracies]}


def _torch_twin(torch: Any, model: nn.Sequential) -> Any:
    """The same layers with the same weights."""
    layers = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            layers.append(torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0]))
        elif isinstance(layer, nn.Conv2d):
            outputs, inputs = layer.weight.shape[:2]
            layers.append(torch.nn.Conv2d(inputs, outputs, 3, padding=1))
        elif isinstance(layer, nn.MaxPool2d):
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers.append(getattr(torch.nn, type(layer).__name__)())
    twin = torch.nn.Sequential(*layers)
    twin.load_state_dict(
        {name: torch.from_numpy(array) for name, array in model.state_dict().items()}
    )
    return twin
