"""Data sets: MNIST, Fashion-MNIST, scikit-learn's digits, and folders of IDX files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pynn.data.cifar10 import cifar10, is_cifar10
from pynn.data.dataset import Dataset, Images, Labels
from pynn.data.fetch import cache_folder, fetch
from pynn.data.idx import read_idx
from pynn.data.splits import split_random
from pynn.errors import FormatError, MissingExtraError

DIGITS_SIZES = (1297, 200, 300)

_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FASHION_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
# In the order of Dataset's fields; `.gz` is added for downloads.
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_TEN_DIGITS = tuple("0123456789")
_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

FourArrays = tuple[Images, Labels, Images, Labels]


def mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Return MNIST: 60 000 training and 10 000 test images (N, 1, 28, 28) of handwritten digits.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.

    Args:
        folder: with the four IDX files, as they are published or unpacked; their content is not
            compared with the published one. None: they are downloaded once and kept in
            `cache_folder()`.

    Raises:
        DownloadError: the files could not be downloaded.
        FileNotFoundError: a file is missing in the folder.
        FormatError, ShapeError, LabelError: files that do not hold such a data set.
    """
    return _published("mnist", folder, _MNIST_URLS, _MNIST_SHA256, _TEN_DIGITS)


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Return Fashion-MNIST: 60 000 training and 10 000 test images (N, 1, 28, 28) of clothing.

    Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747. Arguments and errors as in `mnist`.
    """
    return _published("fashion-mnist", folder, _FASHION_URLS, _FASHION_SHA256, _FASHION_CLASSES)


def digits(seed: int = 0) -> Dataset:
    """Return scikit-learn's handwritten digits: 1 497 training and 300 test images (N, 1, 8, 8).

    They need no network. The grey values 0..16 become round(value * 255 / 16), a half to the even
    number: 17 different values, so that nothing is lost. The rows are dealt by
    `split_random(1797, (1297, 200, 300), seed)`; the training images are its first two parts, in
    this order, so that `split_last(1497, 200)` holds out its second part for validation.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(
            "the digits need scikit-learn, which is not installed: pip install 'pynn-core[run]'"
        ) from error
    source = load_digits()
    images = np.rint(source.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    labels = source.target.astype(np.uint8)
    train, valid, test = split_random(len(images), DIGITS_SIZES, seed)
    train = np.concatenate([train, valid])
    return Dataset("digits", images[train], labels[train], images[test], labels[test], _TEN_DIGITS)


def load(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Return a data set by name, "mnist", "fashion-mnist" or "digits", or a folder of IDX files or
    of CIFAR-10's batches.

    A name goes before a folder that is called so. The classes of a folder's data set are called by
    their numbers, 0 up to the largest label.

    Raises:
        ValueError: neither a name nor a folder.
        PynnError, OSError: as `mnist` and `digits` do.
    """
    by_name: dict[object, Callable[[], Dataset]] = {
        "mnist": mnist,
        "fashion-mnist": fashion_mnist,
        "digits": digits,
    }
    if name_or_path in by_name:
        return by_name[name_or_path]()
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"unknown data set {os.fspath(name_or_path)!r}: expected mnist, fashion-mnist, digits, "
            f"or a folder with the IDX files {', '.join(_FILES)}, or with CIFAR-10's batches"
        )
    if is_cifar10(folder):
        return cifar10(folder)
    arrays = _read_folder(folder)
    largest = max(int(labels.max(initial=0)) for labels in (arrays[1], arrays[3]))
    return Dataset(folder.resolve().name, *arrays, tuple(str(i) for i in range(largest + 1)))


def _published(
    name: str,
    folder: str | os.PathLike[str] | None,
    urls: tuple[str, ...],
    sha256: tuple[str, ...],
    classes: tuple[str, ...],
) -> Dataset:
    if folder is not None:
        return Dataset(name, *_read_folder(Path(folder).expanduser()), classes)
    paths = [
        fetch(
            f"{file}.gz",
            [f"{url}{file}.gz" for url in urls],
            digest,
            folder=cache_folder() / name,
        )
        for file, digest in zip(_FILES, sha256, strict=True)
    ]
    return Dataset(name, *_read_four(paths), classes)


def _read_folder(folder: Path) -> FourArrays:
    return _read_four([_find(folder, file) for file in _FILES])


def _find(folder: Path, file: str) -> Path:
    # Unpacking programs have made train-images.idx3-ubyte of train-images-idx3-ubyte.gz.
    for spelling in (file, file.replace("-idx", ".idx")):
        for ending in (".gz", ""):
            path = folder / f"{spelling}{ending}"
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{file} (or {file}.gz) is missing in the folder {folder}; "
        f"expected there are {', '.join(_FILES)}, plain or as .gz"
    )


def _read_four(paths: list[Path]) -> FourArrays:
    train_images, train_labels, test_images, test_labels = paths
    return (
        _read_images(train_images),
        _read_ubytes(train_labels, 1),
        _read_images(test_images),
        _read_ubytes(test_labels, 1),
    )


def _read_images(path: Path) -> Images:
    return _read_ubytes(path, 3)[:, np.newaxis]


def _read_ubytes(path: Path, dims: int) -> NDArray[np.uint8]:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != dims:
        raise FormatError(
            f"{path}: expected unsigned bytes in {dims} dimensions, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array
