"""Neural networks in Python for people who do not need a datacentre.

NumPy arrays in and out, C++ kernels underneath:

    import pynn
    from pynn import nn, optim

    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    opt = optim.SGD(model.parameters(), lr=0.1)
    history = pynn.fit(model, nn.CrossEntropyLoss(), opt, (x, y), epochs=5, batch_size=100)
"""

from pynn import data, init, io, nn, ops, optim, testing, train
from pynn._core import __version__, get_num_threads, set_num_threads
from pynn.backends import backend, get_backend
from pynn.config import show_config
from pynn.errors import (
    BackendError,
    DTypeError,
    FormatError,
    LabelError,
    MissingExtraError,
    NonFiniteError,
    PynnError,
    ShapeError,
    StateError,
)
from pynn.nn.summary import summary
from pynn.random import default_rng, get_seed, manual_seed
from pynn.train import compile, evaluate, fit

__all__ = [
    "BackendError", "DTypeError", "FormatError", "LabelError", "MissingExtraError",
    "NonFiniteError", "PynnError", "ShapeError", "StateError", "__version__", "backend", "compile",
    "data", "default_rng", "evaluate", "fit", "get_backend", "get_num_threads", "get_seed", "init",
    "io", "manual_seed", "nn", "ops", "optim", "set_num_threads", "show_config", "summary",
    "testing", "train",
]  # fmt: skip
