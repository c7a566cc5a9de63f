"""Studies with files of a user: folders of people, weights, data to pretrain on, a back end."""

import hashlib
import json

import numpy as np
import pytest

import pynn
from pynn import cli, data, io
from pynn.data import Dataset, read_image_folder, split_by_class
from pynn.experiments.runner import run_study
from pynn.experiments.setup import Setup
from pynn.models import AlexNetFeatures


@pytest.fixture(scope="module")
def few():
    """Hardly any digits: what a study is given beside faces."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 10
    return Dataset("digits", images, labels, images, labels, tuple("0123456789"))


def run(*arguments, capsys):
    """A command's JSON object."""
    status = cli.main(["run", *map(str, arguments), "--jobs", "1", "--quiet", "--json"])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return json.loads(captured.out.splitlines()[-1])


def runs(out):
    """The folders of runs, each with what it left."""
    return {path.parent.name: path.read_bytes() for path in (out / "runs").glob("*/result.json")}


def test_faces_of_a_folder_and_again(few, faces, tmp_path):
    out = tmp_path / "out"
    setup = Setup(few, out, quick=True, epochs=25, faces=faces, progress=False)
    first = run_study("faces", setup)
    assert "SHA-256 of each image was written to SHA256SUMS" in first.sections[0]
    lines = (out / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 20
    digest = hashlib.sha256((faces / "s3" / "2.pgm").read_bytes()).hexdigest()
    assert f"{digest}  s3/2.pgm" in lines
    assert first.settings["data"] == ("faces, 4 classes, 32 x 32 grey, train 12, valid 4, test 4")
    assert first.result["test_accuracy"] == 1

    kept, manifest = runs(out), (out / "SHA256SUMS").read_bytes()
    again = run_study("faces", setup)
    assert again.sections[0] == (
        "20 images of faces, each with the SHA-256 that the manifest has for it."
    )
    assert again.result == first.result
    assert runs(out) == kept
    assert (out / "SHA256SUMS").read_bytes() == manifest


def test_the_saved_network_has_the_accuracies_that_the_study_tells(few, faces, tmp_path):
    setup = Setup(few, tmp_path / "out", epochs=2, quick=True, faces=faces, seed=3, progress=False)
    report = run_study("faces", setup)
    state = io.load(tmp_path / "out" / "model.safetensors")
    assert len(state["1.weight"]) == report.result["hidden"]
    found = read_image_folder(faces, size=32)
    parts = split_by_class(found.labels, (0.6, 0.2, 0.2), 3)
    mean = found.images[parts[0]].mean(axis=0)
    scale = (found.images[parts[0]] - mean).std()
    for name, rows in zip(("train", "valid", "test"), parts, strict=True):
        x = ((found.images[rows] - mean) / scale).reshape(len(rows), -1)
        hidden = np.maximum(x @ state["1.weight"].T + state["1.bias"], 0)
        guesses = (hidden @ state["3.weight"].T + state["3.bias"]).argmax(axis=1)
        assert np.mean(guesses == found.labels[rows]) == report.result[f"{name}_accuracy"]


def test_quick_faces_of_the_published_folder(shared_data, tmp_path, capsys):
    result = run(
        "faces", "--quick", "--faces", shared_data("orl-faces"), "--out", tmp_path, capsys=capsys
    )
    assert result["classes"] == 40
    assert result["test_accuracy"] > 0.5  # of 40 people
    assert {each["verdict"] for each in result["comparisons"]} == {"not compared"}  # quick
    text = (tmp_path / "report.md").read_text()
    assert (
        "400 images of faces, each with the SHA-256 that the manifest has for it. They are the "
        "ORL faces" in text
    )
    assert "orl-faces, 40 classes, 32 x 32 grey, train 240, valid 80, test 80" in text


def test_transfer_with_weights_of_ones_own(few, faces, tmp_path):
    weights, out = tmp_path / "mine.safetensors", tmp_path / "out"
    pynn.manual_seed(1)
    io.save(weights, AlexNetFeatures(convolutions=4).state_dict())
    setup = Setup(few, out, epochs=1, faces=faces, weights=weights, progress=False)
    first = run_study("transfer", setup)
    names = ["frozen, pretrained on mine.safetensors", "frozen, random", "all from scratch"]
    assert list(first.result) == names
    (table,) = first.as_json()["tables"]
    assert [row[:2] for row in table["rows"]] == [[name, 256 * 6 * 6] for name in names]
    assert "AlexNet up to the fourth convolution, weights of mine.safetensors." in str(
        first.sections
    )
    assert first.settings["classes"] == 4
    kept = runs(out)
    assert len(kept) == 3
    assert run_study("transfer", setup).result == first.result
    assert runs(out) == kept


def test_transfer_from_a_folder_of_colours(faces, tmp_path, capsys):
    folder = tmp_path / "colours"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for name, count in (("data_batch_1.bin", 60), ("test_batch.bin", 20)):
        records = rng.integers(0, 256, (count, 1 + 3 * 32 * 32), dtype=np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / name).write_bytes(records.tobytes())
    result = run(
        "transfer", "--epochs", 1, "--faces", faces, "--pretrain", folder, "--out", tmp_path / "out",
        capsys=capsys,
    )  # fmt: skip
    (table,) = result["tables"]
    names = ["frozen, pretrained on cifar-10", "frozen, random", "all from scratch"]
    assert [row[:2] for row in table["rows"]] == [[name, 512] for name in names]
    assert result["settings"]["images"] == "train 12, valid 4, test 4"
    text = (tmp_path / "out" / "report.md").read_text()
    assert "pretrained here on 60 images of cifar-10" in text
    states = list((tmp_path / "out" / "runs").glob("*/features.safetensors"))
    assert len(states) == 1
    assert io.load(states[0])["0.weight"].shape == (32, 3, 5, 5)  # of three colours


def test_transfer_with_the_published_squeezenet(shared_data, few, faces, tmp_path):
    weights = shared_data("models/squeezenet1_0/squeezenet1_0.npz")
    setup = Setup(few, tmp_path / "out", epochs=20, faces=faces, squeezenet=weights, progress=False)
    report = run_study("transfer", setup)
    # Without data to pretrain on, the first half of the people are for that.
    assert list(report.result) == [
        "frozen, pretrained on the first half of the people", "frozen, random", "all from scratch",
        "frozen, SqueezeNet",
    ]  # fmt: skip
    assert report.settings["images"] == "train 6, valid 2, test 2"
    (table,) = report.as_json()["tables"]
    assert table["rows"][3][1] == 512
    found = report.result["frozen, SqueezeNet"]
    assert (found["train_accuracy"], found["test_accuracy"]) == (1, 1)
    assert "SqueezeNet 1.0: the means of its 512 last maps" in str(report.sections)


def test_numpy_finds_what_native_kernels_find(tmp_path, capsys):
    digits = data.digits()
    folder = tmp_path / "digits"
    folder.mkdir()
    for part, images, labels in (
        ("train", digits.train_images[:300], digits.train_labels[:300]),
        ("t10k", digits.test_images[:50], digits.test_labels[:50]),
    ):
        pynn.data.write_idx(folder / f"{part}-images-idx3-ubyte", images[:, 0])
        pynn.data.write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    found = {
        backend: run(
            "search", "--data", folder, "--quick", "--epochs", 1, "--backend", backend, "--out",
            tmp_path / "out", capsys=capsys,
        )
        for backend in ("native", "numpy")
    }  # fmt: skip
    assert pynn.get_backend() == "native"
    assert [result["settings"]["backend"] for result in found.values()] == ["native", "numpy"]
    native, numpy = (result["tables"][1]["rows"] for result in found.values())
    assert len(native) == 4
    assert len(runs(tmp_path / "out")) == 8  # one does not take the other's
    for a, b in zip(native, numpy, strict=True):
        assert a[:5] == b[:5]  # the setting, and how many parameters
        assert a[5] == pytest.approx(b[5], abs=1.01 / 41)  # one image near a boundary
        assert a[6] == pytest.approx(b[6], rel=1e-4)  # float32, about 20 or 70 updates
