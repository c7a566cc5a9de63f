import gzip
import hashlib
import io

import numpy as np
import pytest

from pynn.data import cifar10, load, read_cifar10
from pynn.data.cifar10 import CLASSES, RECORD
from pynn.errors import FormatError


def record(label, start=0):
    return bytes([label]) + bytes((start + i) % 251 for i in range(RECORD - 1))


TWO = record(3) + record(9, 100)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_records(pack):
    images, labels = read_cifar10(io.BytesIO(pack(TWO)))
    assert images.shape == (2, 3, 32, 32)
    assert labels.tolist() == [3, 9]
    assert images[0, 0, 0, :3].tolist() == [0, 1, 2]  # red, row by row
    assert images[0, 1, 0, 0] == 1024 % 251  # then green
    assert images[1, 2, 31, 31] == (100 + 3071) % 251
    images[0] = 0  # fresh and writable


CORRUPT = {
    "empty": (b"", "0 bytes are not records of 3073"),
    "cut": (TWO[:-1], "6145 bytes"),
    "label": (record(0) + record(10), "the label 10 of record 1 is outside 0..9"),
    "gzip_cut": (gzip.compress(TWO)[:-9], "corrupt gzip data"),
    "gzip_damaged": (gzip.compress(TWO)[:20] + b"\xff" * 50, "corrupt gzip data"),
    "gzip_of_nothing": (gzip.compress(b""), "0 bytes"),
}


@pytest.mark.parametrize(("content", "message"), CORRUPT.values(), ids=CORRUPT)
def test_corrupt_files_are_named(tmp_path, content, message):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=rf"data_batch_1\.bin: .*{message}"):
        read_cifar10(path)


def test_unpacking_stops_at_the_limit():
    with pytest.raises(FormatError, match="more than the limit of 5000 bytes"):
        read_cifar10(io.BytesIO(gzip.compress(bytes(RECORD * 4000))), limit=5000)


def test_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin \(or .*\) is missing"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(TWO)
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin"):
        load(tmp_path)
    (tmp_path / "data_batch_1.bin.gz").write_bytes(gzip.compress(record(1)))
    (tmp_path / "test_batch.bin").write_bytes(record(5))
    data = load(tmp_path)
    assert data.name == "cifar-10"
    assert data.train_labels.tolist() == [1, 3, 9]
    assert data.test_labels.tolist() == [5]
    assert data.classes == CLASSES


def test_real_cifar10(shared_data):
    folder = shared_data("cifar-10")
    data = cifar10(folder)
    assert data.train_images.shape == data.test_images.shape == (10_000, 3, 32, 32)
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert "\n".join(data.classes) == (folder / "batches.meta.txt").read_text().strip()
    # The published sum of data_batch_1.bin: the records put together again.
    rows = data.train_images.reshape(10_000, -1)
    content = np.concatenate([data.train_labels[:, None], rows], axis=1).tobytes()
    assert hashlib.sha256(content).hexdigest() == (
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
    )
