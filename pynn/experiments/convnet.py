"""Study 5: a convolutional network of 206,500 parameters on handwritten digits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pynn
from pynn import io, nn, optim
from pynn.data import Batches, Dataset, split_last
from pynn.report import save_learning_curves

# Not published with the study, so ours: optimiser, learning rate, batch size, dropout rates.
LEARNING_RATE, MOMENTUM, BATCH_SIZE = 0.05, 0.9, 64
DROPOUT = (0.25, 0.5)  # after the third convolution, and after the first dense layer


def network(image_size: int, classes: int) -> nn.Module:
    """The network for square grey images.

    28 x 28: the study's, 206,500 parameters for ten classes. 8 x 8: the same channels with 3 x 3
    kernels and "same" padding, so that the maps stay large enough.

    Args:
        image_size: 28 or 8.
        classes: number of outputs.
    """
    padding: int | str
    if image_size == 28:
        kernels, padding, features = (5, 4, 3), 0, 360
    elif image_size == 8:
        kernels, padding, features = (3, 3, 3), "same", 160
    else:
        raise pynn.ShapeError(
            f"the network takes images of 28 x 28 or 8 x 8 pixels, got {image_size} x {image_size}"
        )
    return nn.Sequential(
        nn.Conv2d(1, 20, kernels[0], padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 30, kernels[1], padding=padding),
        nn.ReLU(),
        nn.Conv2d(30, 40, kernels[2], padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(DROPOUT[0]),
        nn.Flatten(),
        nn.Linear(features, 500),
        nn.ReLU(),
        nn.Dropout(DROPOUT[1]),
        nn.Linear(500, classes),
    )


def run(
    dataset: Dataset, *, epochs: int, seed: int, out: Path, progress: bool | str = "auto"
) -> dict[str, Any]:
    """Train the network and write curves, history and model.

    Args:
        dataset: images (N, 1, 28, 28) or (N, 1, 8, 8). Of the training images the last 10,000 are
            held out for validation, or where there are fewer than 20,000, the last two fifteenths
            (200 of the digits).
        epochs: how many.
        seed: of initialisation and shuffling.
        out: folder for curves.png, history.csv, history.json, model.safetensors and result.json;
            made if it is missing.
        progress: see `pynn.fit`.

    Returns:
        The result: experiment, data, parameters, losses, accuracies, seconds.
    """
    images, labels = dataset.train_images, dataset.train_labels
    channels, height, width = images.shape[1:]
    if channels != 1 or height != width:
        raise pynn.ShapeError(
            f"the network takes square grey images, got {channels} x {height} x {width}"
        )
    out.mkdir(parents=True, exist_ok=True)
    held_out = 10_000 if len(images) >= 20_000 else len(images) * 2 // 15 + 1
    train, valid = split_last(len(images), held_out)

    pynn.manual_seed(seed)
    model = network(height, len(dataset.classes))
    loss = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    schedule = optim.CosineAnnealingLR(optimizer, max(epochs, 1), floor=0.01)

    begin = time.perf_counter()
    history = pynn.fit(
        model,
        loss,
        optimizer,
        Batches(images[train], labels[train], BATCH_SIZE, seed=seed, reuse=True),
        valid=Batches(images[valid], labels[valid], 256, shuffle=False, reuse=True),
        epochs=epochs,
        schedule=schedule,
        progress=progress,
    )
    seconds = time.perf_counter() - begin
    test = pynn.evaluate(
        model, loss, Batches(dataset.test_images, dataset.test_labels, 256, shuffle=False)
    )

    last = history.rows[-1] if len(history) else {}
    result = {
        "experiment": "convnet",
        "data": dataset.name,
        "parameters": sum(parameter.size for parameter in model.parameters()),
        "epochs": epochs,
        "seed": seed,
        "train_loss": last.get("train_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "valid_loss": last.get("valid_loss"),
        "valid_accuracy": last.get("valid_accuracy"),
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "seconds": seconds,
        "samples": {"train": len(train), "valid": len(valid), "test": len(dataset.test_labels)},
        "settings": {
            "lr": LEARNING_RATE,
            "momentum": MOMENTUM,
            "batch_size": BATCH_SIZE,
            "schedule": "cosine",
            "dropout": list(DROPOUT),
        },
    }
    history.to_csv(out / "history.csv")
    history.to_json(out / "history.json")
    io.save(out / "model.safetensors", model.state_dict())
    if len(history):
        save_learning_curves(
            out / "curves.png", history, f"Convolutional network on {dataset.name}"
        )
    return result
