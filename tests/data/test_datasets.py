import gzip
import hashlib
import shutil
import sys

import numpy as np
import pytest

from pynn.data import Dataset, datasets, digits, fashion_mnist, load, mnist, split_last, write_idx
from pynn.errors import (
    DownloadError,
    DTypeError,
    FormatError,
    LabelError,
    MissingExtraError,
    ShapeError,
)

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture
def folder(tmp_path):
    """A data set of 12 training and 5 test images of 3 x 2 pixels, as four plain IDX files."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for part, n in (("train", 12), ("t10k", 5)):
        images = np.arange(n * 6, dtype=np.uint8).reshape(n, 3, 2)
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 7)
    return folder


def check_tiny(data, name, classes):
    assert data.name == name
    assert data.classes == classes
    assert data.train_images.shape == (12, 1, 3, 2)
    assert data.test_images.shape == (5, 1, 3, 2)
    np.testing.assert_array_equal(data.train_images[1].ravel(), [6, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(data.train_labels, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(data.test_labels, [0, 1, 2, 3, 4])


# The counts are those published with the data; first labels and means are known from everywhere.
def test_real_mnist(data_folder):
    data = mnist(data_folder / "mnist")
    assert data.train_images.shape == (60000, 1, 28, 28)
    assert data.test_images.shape == (10000, 1, 28, 28)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.train_labels).tolist() == train
    assert np.bincount(data.test_labels).tolist() == test
    assert round(data.train_images.mean() / 255, 4) == 0.1307
    assert data.classes == tuple("0123456789")


def test_real_fashion_mnist(data_folder):
    data = fashion_mnist(data_folder / "fashion-mnist")
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert round(data.train_images.mean() / 255, 4) == 0.2860
    assert data.classes[data.train_labels[0]] == "Ankle boot"


@pytest.mark.parametrize(("name", "make"), [("mnist", mnist), ("fashion-mnist", fashion_mnist)])
def test_published_sums_are_those_of_the_files(data_folder, monkeypatch, name, make):
    monkeypatch.setenv("PYNN_DATA", str(data_folder))
    monkeypatch.setenv("PYNN_OFFLINE", "1")
    assert make().name == load(name).name == name


def test_folder(folder):
    check_tiny(mnist(folder), "mnist", tuple("0123456789"))
    check_tiny(load(folder), "tiny", tuple("0123456"))
    check_tiny(load(str(folder)), "tiny", tuple("0123456"))


def test_names_and_compression_of_files(folder):
    renamed = folder / "train-images.idx3-ubyte"
    (folder / FILES[0]).rename(renamed)
    packed = folder / f"{FILES[3]}.gz"
    packed.write_bytes(gzip.compress((folder / FILES[3]).read_bytes()))
    (folder / FILES[3]).unlink()
    check_tiny(load(folder), "tiny", tuple("0123456"))


@pytest.mark.parametrize("missing", FILES)
def test_missing_file_is_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{missing} (or {missing}.gz) is missing in the folder")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["MNIST", "cifar", "/no/such/folder", ""])
def test_unknown_name_lists_the_choices(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "":  # the current folder, which has no data
        with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
            load(name)
        return
    with pytest.raises(ValueError, match="mnist, fashion-mnist, digits, or a folder") as caught:
        load(name)
    assert repr(name) in str(caught.value)


def test_folder_with_a_wrong_file(folder):
    shutil.copy(folder / FILES[0], folder / FILES[1])
    with pytest.raises(
        FormatError, match=r"train-labels.*1 dimensions, got uint8 of shape \(12, 3"
    ):
        load(folder)
    write_idx(folder / FILES[1], np.zeros(12, np.int32))
    with pytest.raises(FormatError, match=r"train-labels.*got int32"):
        load(folder)


def test_folder_with_fewer_labels(folder):
    write_idx(folder / FILES[1], np.zeros(11, np.uint8))
    with pytest.raises(ShapeError, match=r"tiny: training labels must have shape \(12,\)"):
        load(folder)


def test_mnist_with_an_eleventh_class(folder):
    write_idx(folder / FILES[3], np.array([0, 1, 10, 3, 4], np.uint8))
    with pytest.raises(LabelError, match=r"mnist: test label 10 at row 2 is outside 0\.\.9"):
        mnist(folder)


IMAGES = np.zeros((3, 1, 2, 2), np.uint8)
LABELS = np.array([0, 1, 1])
DATASET_REFUSES = {
    "float_images": ({"train_images": IMAGES / 255}, DTypeError, "must be uint8, got float64"),
    "flat_images": ({"test_images": IMAGES[:, 0]}, ShapeError, r"\(N, C, H, W\), got \(3, 2, 2\)"),
    "float_labels": ({"train_labels": LABELS / 1}, DTypeError, "integers, got float64"),
    "column_labels": ({"test_labels": LABELS[:, None]}, ShapeError, r"\(3,\), got \(3, 1\)"),
    "negative_label": ({"train_labels": -LABELS}, LabelError, "training label -1 at row 1"),
    "other_size": ({"test_images": IMAGES[..., :1]}, ShapeError, r"\(1, 2, 2\), but test"),
}


@pytest.mark.parametrize("name", DATASET_REFUSES)
def test_dataset_refuses(name):
    change, error, message = DATASET_REFUSES[name]
    fields = {"train_images": IMAGES, "train_labels": LABELS}
    fields |= {"test_images": IMAGES, "test_labels": LABELS}
    Dataset("some", classes=("no", "yes"), **fields)
    with pytest.raises(error, match=f"^some: .*{message}"):
        Dataset("some", classes=("no", "yes"), **{**fields, **change})


def test_download(folder, tmp_path, monkeypatch):
    """Mirrors are asked in turn, each data set has its own folder, and the cache suffices later."""
    monkeypatch.delenv("PYNN_OFFLINE", raising=False)
    monkeypatch.setenv("PYNN_DATA", str(tmp_path / "cache"))
    digests = []
    for file in FILES:
        packed = gzip.compress((folder / file).read_bytes())
        (folder / f"{file}.gz").write_bytes(packed)
        digests.append(hashlib.sha256(packed).hexdigest())
    monkeypatch.setattr(datasets, "_MNIST_SHA256", tuple(digests))
    urls = ((tmp_path / "none").as_uri() + "/", folder.as_uri() + "/")
    monkeypatch.setattr(datasets, "_MNIST_URLS", urls)
    check_tiny(mnist(), "mnist", tuple("0123456789"))
    assert len(list((tmp_path / "cache" / "mnist").iterdir())) == 4
    shutil.rmtree(folder)
    check_tiny(load("mnist"), "mnist", tuple("0123456789"))
    monkeypatch.setenv("PYNN_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"fashion-mnist.train-images-idx3-ubyte\.gz is not"):
        fashion_mnist()


def test_digits():
    load_digits = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn").load_digits
    data = digits(seed=3)
    assert data.train_images.shape == (1497, 1, 8, 8)
    assert data.test_images.shape == (300, 1, 8, 8)
    train, valid = split_last(1497, 200)
    assert (len(train), len(valid)) == (1297, 200)
    # Nothing lost, nothing twice: images and labels are those of the source in another order.
    source = load_digits()
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    rows = np.column_stack([np.rint(images.reshape(1797, 64) / 255 * 16), labels])
    expected = np.column_stack([source.data, source.target])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    assert sorted(set(images.ravel().tolist())) == [round(v * 255 / 16) for v in range(17)]


def test_digits_by_seed():
    pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    np.testing.assert_array_equal(digits().train_images, load("digits").train_images)
    assert (digits(0).test_labels != digits(1).test_labels).any()


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pynn-core\[run\]'"):
        digits()
