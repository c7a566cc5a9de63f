"""Neural networks in Python for people who do not need a datacentre.

NumPy arrays in and out, C++ kernels underneath:

    import pynn
    from pynn import nn, optim

    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    opt = optim.SGD(model.parameters(), lr=0.1)
    history = pynn.fit(model, nn.CrossEntropyLoss(), opt, (x, y), epochs=5, batch_size=100)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    from pynn._core import (
        __version__,
        get_num_threads,
        get_winograd,
        set_num_threads,
        set_winograd,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        f"the compiled part of pynn is not in {__path__[0]}; in a clone of the repository, install "
        "with `pip install -e .`, or start Python in another folder"
    ) from error

from pynn import init, nn, ops
from pynn.backends import backend, get_backend
from pynn.errors import (
    BackendError,
    BuildError,
    DeviceError,
    DeviceMemoryError,
    DownloadError,
    DTypeError,
    FormatError,
    LabelError,
    LibraryError,
    MissingExtraError,
    NonFiniteError,
    OperatorError,
    PynnError,
    ShapeError,
    StateError,
)
from pynn.nn.summary import summary
from pynn.random import default_rng, get_seed, manual_seed

if TYPE_CHECKING:
    from pynn import cuda, data, io, optim, testing, train
    from pynn.config import show_config
    from pynn.extension import get_cmake_dir, get_include, load_inline, load_library
    from pynn.train import compile, evaluate, fit

# Loaded when they are first used, so that `import pynn` costs little more than NumPy.
_MODULES = ("cuda", "data", "io", "optim", "testing", "train")
_FUNCTIONS = {
    "compile": "pynn.train",
    "evaluate": "pynn.train",
    "fit": "pynn.train",
    "get_cmake_dir": "pynn.extension",
    "get_include": "pynn.extension",
    "load_inline": "pynn.extension",
    "load_library": "pynn.extension",
    "show_config": "pynn.config",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"pynn.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'pynn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "BackendError", "BuildError", "DTypeError", "DeviceError", "DeviceMemoryError",
    "DownloadError", "FormatError", "LabelError", "LibraryError", "MissingExtraError",
    "NonFiniteError", "OperatorError", "PynnError", "ShapeError", "StateError", "__version__",
    "backend", "compile", "cuda", "data", "default_rng", "evaluate", "fit", "get_backend",
    "get_cmake_dir", "get_include", "get_num_threads", "get_seed", "get_winograd", "init", "io",
    "load_inline", "load_library", "manual_seed", "nn", "ops", "optim", "set_num_threads",
    "set_winograd", "show_config", "summary", "testing", "train",
]  # fmt: skip
