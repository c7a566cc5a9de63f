"""Data: IDX files, images, CIFAR-10, data sets that are downloaded once, splits, and shuffled
mini-batches."""

from pynn.data.batches import Batches
from pynn.data.cifar10 import cifar10, read_cifar10
from pynn.data.dataset import Dataset
from pynn.data.datasets import digits, fashion_mnist, load, mnist
from pynn.data.fetch import cache_folder, fetch
from pynn.data.idx import read_idx, write_idx
from pynn.data.image_folder import ImageFolder, list_images, read_image_folder
from pynn.data.images import read_image, resize
from pynn.data.manifest import check_manifest, find_manifest, write_manifest
from pynn.data.splits import check_split, split_by_class, split_first, split_last, split_random

__all__ = [
    "Batches",
    "Dataset",
    "ImageFolder",
    "cache_folder",
    "check_manifest",
    "check_split",
    "cifar10",
    "digits",
    "fashion_mnist",
    "fetch",
    "find_manifest",
    "list_images",
    "load",
    "mnist",
    "read_cifar10",
    "read_idx",
    "read_image",
    "read_image_folder",
    "resize",
    "split_by_class",
    "split_first",
    "split_last",
    "split_random",
    "write_idx",
    "write_manifest",
]
