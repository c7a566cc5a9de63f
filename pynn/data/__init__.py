"""Data: IDX files, data sets that are downloaded once, splits, and shuffled mini-batches."""

from pynn.data.batches import Batches
from pynn.data.datasets import Dataset, digits, fashion_mnist, load, mnist
from pynn.data.fetch import cache_folder, fetch
from pynn.data.idx import read_idx, write_idx
from pynn.data.splits import check_split, split_first, split_last, split_random

__all__ = [
    "Batches",
    "Dataset",
    "cache_folder",
    "check_split",
    "digits",
    "fashion_mnist",
    "fetch",
    "load",
    "mnist",
    "read_idx",
    "split_first",
    "split_last",
    "split_random",
    "write_idx",
]
